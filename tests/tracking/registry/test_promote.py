"""Promotion: only a better model gets the alias, what replaced what is written down, and the way back."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.tracking.store.test_logged_models import model_folder
from tracking.__main__ import main
from tracking.errors import ModelError, RunNotFound, StoreUnreachable, TrackingError
from tracking.journal import Journal
from tracking.registry import candidates, promote
from tracking.store import Store
from tracking.store.replay import replay


def run(
    store: Store,
    tmp_path: Path,
    name: str,
    hits: Sequence[bool] = (True, True, False, False),
    *,
    digest: str = "pictures",
    accuracy: float | None = None,
    model: bool = True,
    pretext: bool = False,
    status: str = "FINISHED",
    last: float = 0.0,
    dataset: str = "owls",
) -> str:
    """A run with a model of epoch 2 and its answers to the validation pictures; its MLflow id."""
    journal = Journal.create(store.journals, experiment="exp", run_name=name)
    journal.params({"dataset": dataset})
    tags = {"validation_dataset_digest": digest, **({"pretext": "rotation"} if pretext else {})}
    journal.tags(tags)
    score = sum(hits) / len(hits) if accuracy is None else accuracy
    journal.metrics({"validation_accuracy": score, "validation_loss": 1 - score}, step=2)
    journal.metrics({"validation_accuracy": last}, step=3)  # a later epoch, whose weights were not kept
    journal.metrics({"validation_num_images": len(hits)}, step=2)
    if model:
        journal.artifact(model_folder(tmp_path / name / "model"))
    table = pd.DataFrame(
        {
            "image_digest": [f"p{number // 2}" for number in range(len(hits))],  # of every two one is a copy
            "key": [str(number) for number in range(len(hits))],
            "label": [1] * len(hits),
            "predicted": [int(hit) for hit in hits],
            "probability": [0.5] * len(hits),
        }
    )
    path = tmp_path / name / "validation.parquet"
    path.parent.mkdir(exist_ok=True)
    table.to_parquet(path)
    journal.artifact(path, "predictions")
    journal.status(status)
    journal.close()
    return replay(journal.dir, store).run_id


def champion(store: Store, name: str = "owls") -> Any:
    return store.client().get_model_version_by_alias(name, "champion")


def challenge(store: Store, run_id: str, **how: Any) -> promote.Move:
    return promote.promote(store, candidates.candidate(store, run_id), "owls", **how)


def test_the_first_model_gets_the_alias(store: Store, tmp_path: Path) -> None:
    run_id = run(store, tmp_path, "first")
    move = challenge(store, run_id)
    assert (move.moved, move.former, move.version) == (True, None, "1")
    version = champion(store)
    assert version.run_id == run_id and str(version.version) == "1"
    model = store.client().get_logged_model(version.tags["model_id"])
    assert version.source == model.artifact_location
    audit = version.tags["alias.champion.audit"]
    assert "champion, replaced nothing" in audit and "validation_accuracy 0.5000 on 4 pictures" in audit


def test_the_score_is_of_the_weights_that_were_kept(store: Store, tmp_path: Path) -> None:
    found = candidates.candidate(store, run(store, tmp_path, "one", last=0.9))
    assert (found.score, found.num_images, found.digest) == (0.5, 4, "pictures")


def test_only_a_better_one_replaces_it(store: Store, tmp_path: Path) -> None:
    first = run(store, tmp_path, "first")
    challenge(store, first)
    equal = challenge(store, run(store, tmp_path, "equal"))
    assert not equal.moved and "0.5000 against 0.5000 of version 1 is not better" in equal.why
    better = challenge(store, run(store, tmp_path, "better", (True, True, True, False)))
    assert better.moved and (better.former, better.version) == ("1", "2")
    again = challenge(store, first)
    assert not again.moved
    assert str(champion(store).version) == "2"
    assert len(store.client().search_model_versions("name = 'owls'")) == 2  # who was refused is not registered


def test_a_lower_loss_is_the_better_one(store: Store, tmp_path: Path) -> None:
    one, two = run(store, tmp_path, "one"), run(store, tmp_path, "two", (True, True, True, False))
    by_loss = [candidates.candidate(store, run_id, "validation_loss") for run_id in (one, two)]
    assert promote.promote(store, by_loss[0], "owls").moved
    assert promote.promote(store, by_loss[1], "owls").moved
    assert not promote.promote(store, by_loss[0], "owls").moved


def test_promoting_the_champion_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    run_id = run(store, tmp_path, "first")
    challenge(store, run_id)
    before = champion(store).tags
    move = challenge(store, run_id)
    assert not move.moved and move.why == "it has the alias already" and champion(store).tags == before


def test_chance_is_not_enough_where_a_test_is_asked_for(store: Store, tmp_path: Path) -> None:
    half = [True, False] * 20
    challenge(store, run(store, tmp_path, "champion", half))
    slightly = challenge(store, run(store, tmp_path, "slightly", [*half[:-1], True]), significant=True)
    assert (
        not slightly.moved
        and "the difference is not significant: right alone on 1 pictures, wrong alone on 0, p = 1" in slightly.why
    )
    clearly = challenge(store, run(store, tmp_path, "clearly", [True] * 30 + half[30:]), significant=True)
    assert clearly.moved and "right alone on 15 pictures, wrong alone on 0" in clearly.why


def test_answers_to_other_pictures_cannot_be_paired(store: Store, tmp_path: Path) -> None:
    challenge(store, run(store, tmp_path, "one"))
    more = run(store, tmp_path, "more", [True] * 6)
    with pytest.raises(ModelError, match=r"different pictures \(2 of 6"):
        challenge(store, more, significant=True)


def test_scores_on_other_pictures_do_not_compare(store: Store, tmp_path: Path) -> None:
    challenge(store, run(store, tmp_path, "one"))
    other = run(store, tmp_path, "other", [True] * 4, digest="others")
    refused = challenge(store, other)
    assert not refused.moved and "scored on other pictures" in refused.why
    forced = challenge(store, other, force=True)
    assert forced.moved and forced.why.startswith("forced, although version 1 was scored on other pictures")
    assert "forced" in champion(store).tags["alias.champion.audit"]


def test_a_champion_whose_run_is_gone_keeps_each_score_with_its_pictures(store: Store, tmp_path: Path) -> None:
    one = run(store, tmp_path, "one")
    client = store.client()
    client.log_metric(one, "test_accuracy", 0.25, step=2)
    client.set_tag(one, "test_dataset_digest", "other pictures")
    challenge(store, one)
    by_test = candidates.candidate(store, one, "test_accuracy")
    assert by_test.digest == "other pictures" and promote.promote(store, by_test, "owls", "tested").moved
    client.delete_run(one)
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database, database:
        database.execute("DELETE FROM runs WHERE run_uuid = ?", [one])  # as `mlflow gc` does
    better = run(store, tmp_path, "better", (True, True, True, False))
    assert challenge(store, better, significant=True).why.startswith("the run of version 1 is gone")
    move = challenge(store, better)
    assert move.moved and move.why == "validation_accuracy 0.7500 against 0.5000 of version 1"


def test_the_way_back_goes_step_by_step_to_the_first(store: Store, tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two", "three"), 1):
        assert challenge(store, run(store, tmp_path, name, [True] * number + [False] * 4)).moved
    for former, version in (("3", "2"), ("2", "1"), ("1", None)):
        move = promote.demote(store, "owls")
        assert (move.former, move.version) == (former, version)
    with pytest.raises(ModelError, match="no version of 'owls' has the alias"):
        promote.demote(store, "owls")
    history = store.client().get_registered_model("owls").tags["audit"].splitlines()
    assert len(history) == 6 and "champion: back from version 3 to 2" in history[3]


def test_one_who_came_back_and_was_replaced_again(store: Store, tmp_path: Path) -> None:
    one, two = run(store, tmp_path, "one"), run(store, tmp_path, "two", (True, True, True, False))
    challenge(store, one)
    challenge(store, two)
    promote.demote(store, "owls")
    assert challenge(store, two).version == "2"  # the version there is, not a new one
    assert promote.demote(store, "owls").version == "1"
    assert promote.demote(store, "owls").version is None


def test_an_alias_that_somebody_else_moved_goes_back_to_where_he_put_it(store: Store, tmp_path: Path) -> None:
    one, two = run(store, tmp_path, "one"), run(store, tmp_path, "two", (True, True, True, False))
    challenge(store, one)
    challenge(store, two)
    client = store.client()
    client.set_registered_model_alias("owls", "champion", "1")
    challenge(store, run(store, tmp_path, "three", [True] * 4))
    assert promote.demote(store, "owls").version == "1"


def test_a_version_that_is_gone_cannot_have_the_alias_back(store: Store, tmp_path: Path) -> None:
    challenge(store, run(store, tmp_path, "one"))
    challenge(store, run(store, tmp_path, "two", [True] * 4))
    store.client().delete_model_version("owls", "1")
    with pytest.raises(ModelError, match="version 1 of 'owls'.*was deleted"):
        promote.demote(store, "owls")
    assert str(champion(store).version) == "2"


def test_a_champion_of_unknown_origin_needs_force(store: Store, tmp_path: Path) -> None:
    client = store.client()
    client.create_registered_model("owls")
    client.create_model_version("owls", "s3://elsewhere/model")
    client.set_registered_model_alias("owls", "champion", "1")
    run_id = run(store, tmp_path, "one")
    assert "has no validation_accuracy to compare with" in challenge(store, run_id).why
    assert challenge(store, run_id, force=True).version == "2"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"model": False}, "has no model in MLflow"),
        ({"pretext": True}, "learned rotation, not the labels"),
        ({"accuracy": 994.0}, "994, which is impossible"),
        ({"accuracy": float("nan")}, "nan, which is impossible"),
    ],
)
def test_a_run_that_is_no_candidate_is_refused(how: dict[str, Any], words: str, store: Store, tmp_path: Path) -> None:
    run_id = run(store, tmp_path, "one", **how)
    with pytest.raises(ModelError, match=words):
        candidates.candidate(store, run_id)


def test_a_score_of_another_epoch_is_none_of_the_models(store: Store, tmp_path: Path) -> None:
    journal = Journal.create(store.journals, experiment="exp", run_name="unscored")
    journal.metrics({"validation_accuracy": 0.5}, step=3)
    journal.artifact(model_folder(tmp_path / "unscored" / "model"))  # of epoch 2
    journal.status("FINISHED")
    journal.close()
    run_id = replay(journal.dir, store).run_id
    with pytest.raises(ModelError, match=r"has no validation_accuracy of epoch 2, its model's; it has"):
        candidates.candidate(store, run_id)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("epoch_time_s", "not a score"),
        ("images_per_s", "not a score"),
        ("train_accuracy", "not a score to choose a model by; take one of validation_accuracy"),
        ("beauty", "not a score"),
        ("test_accuracy", "has no test_accuracy"),
    ],
)
def test_a_metric_that_cannot_choose_is_refused(metric: str, words: str, store: Store, tmp_path: Path) -> None:
    run_id = run(store, tmp_path, "one")
    with pytest.raises(ModelError, match=words):
        candidates.candidate(store, run_id, metric)
    with pytest.raises(RunNotFound):
        candidates.candidate(store, "deadbeef")


def test_the_best_is_chosen_among_what_compares(store: Store, tmp_path: Path) -> None:
    run(store, tmp_path, "poor")
    good = run(store, tmp_path, "good", (True, True, True, False))
    run(store, tmp_path, "source", [True] * 4, pretext=True)
    run(store, tmp_path, "bare", [True] * 4, model=False)
    run(store, tmp_path, "failed", [True] * 4, status="FAILED")
    assert candidates.best(store, experiment="exp").run_id == good
    assert candidates.best(store, experiment="exp", dataset="owls").run_id == good
    with pytest.raises(ModelError, match="no finished run"):
        candidates.best(store, experiment="exp", dataset="cats")
    run(store, tmp_path, "elsewhere", [True] * 4, digest="others")
    with pytest.raises(ModelError, match="3 runs were scored on 2 different sets of pictures, .*; name the run"):
        candidates.best(store, experiment="exp")
    with pytest.raises(ModelError, match="not a score"):
        candidates.best(store, experiment="exp", metric="beauty")


def test_the_best_is_asked_by_the_data_sets_shown_name(store: Store, tmp_path: Path) -> None:
    one = run(store, tmp_path, "one")
    other = run(store, tmp_path, "other", digest="others", dataset="/some where/my cats/")
    assert candidates.best(store, experiment="exp", dataset="owls").run_id == one
    for name in ("my cats", "my cats/", "/some where/my cats"):
        assert candidates.best(store, experiment="exp", dataset=name).run_id == other
    said = "choose with --dataset '/some where/my cats/' or --dataset owls, or name the run"
    with pytest.raises(ModelError, match=said):
        candidates.best(store, experiment="exp")
    with pytest.raises(ModelError, match="no finished run"):
        candidates.best(store, experiment="exp", dataset="where/my cats")


def test_the_command_line_says_what_replaced_what(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run(store, tmp_path, "one")
    run(store, tmp_path, "two", (True, True, True, False))
    assert main(["promote", one[:8], "--name", "owls"]) == 0
    assert "owls@champion is now version 1: the first" in capsys.readouterr().out
    assert main(["promote", "--best", "--experiment", "exp", "--name", "owls"]) == 0
    said = capsys.readouterr().out
    assert "owls@champion is now version 2, replacing version 1" in said and "(two)" in said
    assert main(["promote", one, "--name", "owls"]) == 1
    assert f"not promoted: run {one[:8]} (one)" in capsys.readouterr().out
    assert main(["demote", "--name", "owls"]) == 0
    assert "owls@champion is version 1 again, no longer version 2" in capsys.readouterr().out
    assert main(["demote", "--name", "owls"]) == 0
    assert "no longer set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["promote", "--name", "owls"], "a run's id, or --best"),
        (["promote", "abcd1234", "--best", "--name", "owls"], "a run's id, or --best"),
        (["promote", "abcd1234", "--name", "owls"], "no run 'abcd1234'"),
        (["promote", "--best", "--experiment", "none", "--name", "owls"], "no experiment 'none'"),
        (["demote", "--name", "owls"], "no version of 'owls'"),
        (["promote", "abcd1234", "--name", "a/b"], "model name 'a/b': legal are"),
        (["promote", "abcd1234", "--name", " "], "model name ' '"),
        (["promote", "abcd1234", "--name", "barn's"], 'model name "barn\'s"'),
        (["promote", "abcd1234", "--name", "owls", "--alias", "V12"], "alias 'V12': legal are"),
        (["promote", "abcd1234", "--name", "owls", "--alias", "two words"], "alias 'two words'"),
        (["demote", "--name", "a:b", "--alias", "latest"], "model name 'a:b': legal are up to 255"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    argv: list[str], words: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert words in captured.err and "Traceback" not in captured.err and not captured.out


def test_choosing_by_a_test_score_is_remarked_on(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = run(store, tmp_path, "one")
    assert main(["promote", run_id, "--name", "owls", "--metric", "test_accuracy"]) == 2
    assert "biases that score" in capsys.readouterr().err


def test_errors_of_promotion_are_the_packages_own() -> None:
    assert issubclass(ModelError, TrackingError)


class Interrupted:
    """A client each of whose calls waits for its turn."""

    def __init__(self, client: Any, turn: Callable[[], AbstractContextManager[None]]) -> None:
        self._client, self._turn = client, turn

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with self._turn():
                return asked(*arguments, **named)

        return call


@dataclass(frozen=True)
class Contested(Store):
    """A store in whose calls others get a word in; as a server's it has no file to lock."""

    turn: Callable[[], AbstractContextManager[None]] = nullcontext
    is_server: bool = True

    @property
    def database(self) -> Path | None:
        return None if self.is_server else super().database

    def client(self) -> Any:
        return Interrupted(Store(self.tracking_uri, self.artifact_root, self.journals).client(), self.turn)


class Turns:
    """Lets two threads have their calls in an order that ``seed`` decides, one call at a time."""

    def __init__(self, seed: int, names: Sequence[str]) -> None:
        self._order, self._left, self._gate = random.Random(seed), list(names), threading.Condition()
        self._next = self._order.choice(self._left)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        with self._gate:
            assert self._gate.wait_for(lambda: self._next == name, timeout=60)
            try:
                yield
            finally:
                self._pass()

    def end(self, name: str) -> None:
        with self._gate:
            self._left.remove(name)
            self._pass()

    def _pass(self) -> None:
        self._next = self._order.choice(self._left) if self._left else ""
        self._gate.notify_all()


@pytest.fixture
def three(store: Store, tmp_path: Path) -> tuple[Store, list[candidates.Candidate], bytes]:
    """A champion with 0.5 and two challengers, 0.75 and 1.0; the database as it is then."""
    hits = ((True, True, False, False), (True, True, True, False), (True, True, True, True))
    ids = [run(store, tmp_path, name, which) for name, which in zip(("old", "good", "best"), hits, strict=True)]
    challenge(store, ids[0])
    assert store.database is not None
    found = [candidates.candidate(store, run_id) for run_id in ids]
    return store, found, store.database.read_bytes()


def audited(store: Store) -> dict[str, str]:
    """What each audit says was replaced; the alias's holder last."""
    found = {}
    for version in store.client().search_model_versions("name = 'owls'"):
        audit = version.tags.get("alias.champion.audit", "")
        if audit:
            found[version.run_id] = audit
    return found


def test_of_two_at_the_same_time_the_better_one_has_it_whoever_comes_last(
    three: tuple[Store, list[candidates.Candidate], bytes],
) -> None:
    """On a server: their calls in many orders, each as likely as the other."""
    store, (_, *challengers), database = three
    assert store.database is not None
    for seed in range(10):
        store.database.write_bytes(database)
        turns, moves = Turns(seed, ("good", "best")), dict[str, promote.Move]()

        def go(name: str, one: candidates.Candidate, turns: Turns = turns, moves: Any = moves) -> None:
            place = Contested(store.tracking_uri, store.artifact_root, store.journals, lambda: turns.of(name))
            try:
                moves[name] = promote.promote(place, one, "owls")
            finally:
                turns.end(name)

        threads = [threading.Thread(target=go, args=pair) for pair in zip(("good", "best"), challengers, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        holder, audits = champion(store), audited(store)
        assert holder.run_id == challengers[1].run_id, (seed, moves)
        assert moves["best"].moved and moves["best"].version == str(holder.version)
        assert f"replaced version {moves['best'].former};" in audits[holder.run_id]
        assert f"against {0.75 if moves['best'].former != '1' else 0.5:.4f} of version" in audits[holder.run_id]
        assert (challengers[0].run_id in audits) == moves["good"].moved and len(audits) == 2 + moves["good"].moved
        history = store.client().get_registered_model("owls").tags["audit"].splitlines()
        assert f"champion: version {holder.version} for" in history[-1] and len(history) == len(audits)
        assert promote.demote(store, "owls").version != str(holder.version)


def test_a_promotion_that_is_done_is_no_rival_of_later_ones(
    three: tuple[Store, list[candidates.Candidate], bytes],
) -> None:
    """Given back, it stays back; and so does one that died on the way."""
    store, (_, good, best), _ = three
    server = Contested(store.tracking_uri, store.artifact_root, store.journals)
    assert promote.promote(server, best, "owls").moved
    assert promote.demote(server, "owls").version == "1"
    assert promote.promote(server, good, "owls").moved and champion(store).run_id == good.run_id
    left = store.client().search_model_versions(f"run_id = '{best.run_id}'")[0]
    store.client().set_model_version_tag("owls", left.version, "alias.champion.claim", "set 1700000000000000000")
    assert promote.demote(server, "owls").version == "1"
    assert promote.promote(server, good, "owls").moved and champion(store).run_id == good.run_id


def test_where_there_is_a_file_one_waits_for_the_other(
    three: tuple[Store, list[candidates.Candidate], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (_, good, best), _ = three
    refused = 0

    def meanwhile() -> AbstractContextManager[None]:
        nonlocal refused
        with pytest.raises(StoreUnreachable, match="another process has been promoting in"):
            promote.promote(store, best, "owls")
        refused += 1
        return nullcontext()

    monkeypatch.setattr(promote, "PATIENCE_S", 0.0)
    busy = Contested(store.tracking_uri, store.artifact_root, store.journals, meanwhile, is_server=False)
    assert promote.promote(busy, good, "owls").moved and refused > 10
    assert promote.promote(store, best, "owls").former == "2" and champion(store).run_id == best.run_id
    assert "replaced version 2;" in audited(store)[best.run_id]
