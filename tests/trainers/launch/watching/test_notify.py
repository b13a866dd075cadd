"""Messages over real HTTP: each once, tried again, without secrets, and never to a run's harm."""

from __future__ import annotations

import os
import sys
import time

import pytest

from tests.support.inbox import SECRET, Inbox
from tests.support.inbox import inbox_fixture as inbox_fixture
from trainers.errors import BadConfig
from trainers.launch.watching import notify


def test_each_message_arrives_once_with_its_kind_and_is_tried_again(inbox: Inbox) -> None:
    inbox.answers = [500, 503]
    sender = notify.Notifier([inbox.url], pauses_s=(0.0, 0.01, 0.01))
    sender.tell("cats: failed", "out of memory", "failure")
    sender.tell("cats: finished", "test 0.91", "success")
    sender.close(10)
    assert [(m["title"], m["message"], m["type"]) for m in inbox.messages] == [
        ("cats: failed", "out of memory", "failure"),
        ("cats: finished", "test 0.91", "success"),
    ]
    assert inbox.tries == 4


def test_a_dead_address_costs_neither_the_others_nor_the_run_and_is_not_named(
    inbox: Inbox, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    dead = f"json://me:{SECRET}@127.0.0.1:9/{SECRET}"
    sender = notify.Notifier([dead, inbox.url], pauses_s=(0.0, 0.01))
    sender.tell("cats: finished", "test 0.91", "success")
    sender.close(10)
    said = capsys.readouterr().err
    assert (
        inbox.titles == ["cats: finished"]
        and said == "a message could not be sent to json://… (--notify): cats: finished\n"
    )
    assert SECRET not in caplog.text


def test_the_end_of_a_process_waits_for_messages_no_longer_than_it_says(
    inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox.answers = [500] * 9
    sender = notify.Notifier([inbox.url], pauses_s=(0.0, 60.0))
    sender.tell("cats: finished", "", "success")
    began = time.monotonic()
    sender.close(0.2)
    assert time.monotonic() - began < 2 and "not every message was sent" in capsys.readouterr().err


def test_a_wrong_address_is_a_fault_that_does_not_show_it() -> None:
    with pytest.raises(BadConfig) as caught:
        notify.Notifier([f"slakc://{SECRET}/b/c", SECRET])
    assert "address 1 (slakc://…)" in str(caught.value) and "address 2 (?://…)" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_address_leaves_the_environment_and_the_command_line_that_runs_record(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(notify.VARIABLE, inbox.url)
    monkeypatch.setattr(sys, "argv", ["run.py", "--notify", f"json://{SECRET}.example", f"--notify={inbox.url}"])
    with notify.using([f"json://{SECRET}.example", inbox.url]):
        assert notify.VARIABLE not in os.environ and SECRET not in " ".join(sys.argv)
        assert sys.argv == ["run.py", "--notify", "***", "--notify=***"]
    notify.tell("nobody", "listens now")
    assert inbox.messages == []


def test_passwords_in_a_reason_are_hidden(inbox: Inbox) -> None:
    with notify.using([inbox.url]):
        notify.tell("cats: failed", "cannot reach postgresql://me:hunter22xyz@db/mlflow")
    assert "hunter22xyz" not in inbox.messages[0]["message"] and "db/mlflow" in inbox.messages[0]["message"]
