# PYTHON_ARGCOMPLETE_OK
"""``python -m trainers.jobs``: watch, list, logs, stop and wait for jobs on SageMaker and Ray, wherever launched.

``import``, ``setup`` and ``clean`` are about a SageMaker account.

Exit codes: 0 all went well, 1 a job did not finish, 2 bad input, 124 the time to wait is over, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracking import __version__
from tracking.errors.program import program_parser, run_program
from trainers.errors import BadConfig
from trainers.ray.job import KIND, RayJob

if TYPE_CHECKING:
    from tracking.store import Store
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.job.launcher import SageMakerJob
    from trainers.sagemaker.job.ledger import Entry

TIME_IS_OVER = 124


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for what the user did."""
    return run_program("trainers.jobs", lambda: _act(argv))


def _act(argv: Sequence[str] | None) -> int:
    from trainers.launch.watching import notify

    arguments = _parser().parse_args(argv)
    with notify.using(getattr(arguments, "notify", None)):
        return int(arguments.act(arguments))


def _watch(arguments: argparse.Namespace) -> int:
    from trainers.launch.watching import rules
    from trainers.ray.watch import watch_of
    from trainers.sagemaker.watch import console

    faults: list[str] = []
    stop_on = list(rules.parse(arguments.stop_on, faults))
    if faults:
        raise BadConfig(faults)
    store = _store()
    entries = _named(arguments, store, take_over=True) or [entry for entry in _known(store) if not entry.ended]
    if not entries:
        print("no job is under way")
        return 0
    if stop_on:
        entries = [entry.changed(stop_on=stop_on) for entry in entries]
    places = {(entry.region, entry.profile) for entry in entries}
    outcomes = console.follow(
        entries,
        store=store,
        poll_s=arguments.poll,
        aws=_Clients(arguments).of(entries[0]) if len(places) == 1 else None,
        with_log=not arguments.quiet,
        watch_of=watch_of,
    )
    return 0 if console.all_finished(outcomes) else 1


def _list(arguments: argparse.Namespace) -> int:
    from tracking.errors.words import duration, money
    from trainers.ray.watch import watch_of
    from trainers.sagemaker.errors import AwsError, NoCredentials, Unreachable
    from trainers.sagemaker.job import phases
    from trainers.sagemaker.watch.end import stored_outcome

    if arguments.account:
        return _list_account(arguments)
    clients, rows = _Clients(arguments), []
    for entry in list(_known(_store()))[-arguments.limit :]:
        watch = watch_of(entry, clients.of(entry))
        outcome, billed, phase = stored_outcome(entry), "", ""
        state: str
        if outcome is not None:
            state = outcome.state
            billed = "" if outcome.billable_s is None else duration(outcome.billable_s)
            cost = "" if outcome.cost_usd is None else money(outcome.cost_usd)
        elif entry.submitted_ms is None:
            state, cost, phase = "waiting", "", "not launched yet"
        elif arguments.offline:
            state, cost = "?", ""
        else:
            try:
                watch.look()
                state, phase = watch.state, watch.phase
                if phase == "queued":
                    phase = f"queued: {phases.phases(watch.description)[-1].message}"
                billed = duration(watch.billed_s()) if watch.description else ""
                spent = watch.cost_usd()
                cost = "" if spent is None else money(spent)
            except (AwsError, NoCredentials) as error:
                state, cost, phase = "?", "", str(error)[:60]
                # AWS's others would not answer either.
                arguments.offline = bool(entry.region) and isinstance(error, (Unreachable, NoCredentials))
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created_ms / 1000))
        rows.append((entry.name, state, phase, since, billed, cost, entry.instance_type, entry.journal_id[:8]))
    _table(("job", "state", "phase", "launched", "billed", "cost", "machine", "run"), rows)
    return 0


def _list_account(arguments: argparse.Namespace) -> int:
    from trainers.sagemaker.job import phases

    rows = []
    aws = _Clients(arguments).here()
    for page in aws.pages(
        "sagemaker", "ListTrainingJobs", SortBy="CreationTime", SortOrder="Descending", MaxResults=100
    ):
        for job in page["TrainingJobSummaries"]:
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(phases.seconds(job["CreationTime"])))
            status = job["TrainingJobStatus"]
            rows.append((job["TrainingJobName"], status, job.get("SecondaryStatus", ""), since))
        if len(rows) >= arguments.limit:
            break
    _table(("job", "status", "phase", "created"), rows[: arguments.limit])
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    from trainers.sagemaker.aws.logs import LogReader

    store = _store()
    (entry,) = _named(arguments, store)
    kept = entry.directory / "files" / "log.txt"
    if entry.ended and kept.is_file():
        print(kept.read_text(encoding="utf-8"), end="")
        return 0
    if entry.ended:
        print(f"{entry.name}: {_how_it_ended(entry)}, and left no log here", file=sys.stderr)
    aws = _Clients(arguments).of(entry)
    if entry.submitted_ms is None and not _is_there(aws, entry):
        print(_not_launched(entry), file=sys.stderr)
        return 1
    job, shown, readers = _job(aws, entry), 0, dict[str, LogReader]()
    while True:
        under_way = arguments.follow and job.state() in ("waiting", "running")
        if isinstance(job, RayJob):
            lines = list(job.logs())
            print("\n".join(lines[shown:]), end="\n" if lines[shown:] else "", flush=True)
            shown = len(lines)
        elif name := job.training_job():
            for page in readers.setdefault(name, LogReader(aws, name, {})).read(drain=not under_way):
                for line in page:
                    print(line.text.rstrip("\n").replace("#011", "\t"), flush=True)
        elif not under_way:
            print(f"{entry.name}: is in the queue and has no training job now, and so no log", file=sys.stderr)
        if not under_way:
            return 0
        aws.clock.sleep(arguments.poll)


def _stop(arguments: argparse.Namespace) -> int:
    from trainers.ray.watch import watch_of
    from trainers.sagemaker.errors import AwsError

    clients, code = _Clients(arguments), 0
    for entry in _named(arguments, _store()):
        if entry.ended:
            print(f"{entry.name}: {_how_it_ended(entry)}; there is nothing to stop")
            continue
        watch = watch_of(entry, clients.of(entry))
        try:
            if entry.submitted_ms is None:
                watch.open()  # or else another process may launch it at this moment
            status: list[str] = []
            watch.stop(status.append)
            if status:
                print(f"{entry.name}: there is nothing to stop: {status[0]}")
            elif watch.entry.submitted_ms is None:
                watch.abandon("not launched: stopped before", "stopped")
                print(f"{entry.name}: was not launched, and will not be")
            else:
                print(f"{watch.entry.name}: asked to end; it keeps the model it has")
        except (AwsError, ValueError) as error:
            print(f"trainers.jobs: {entry.name}: {error}", file=sys.stderr)
            code = 1
        finally:
            watch.close()
    return code


def _wait(arguments: argparse.Namespace) -> int:
    clients, code = _Clients(arguments), 0
    until = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    for entry in _named(arguments, _store()):
        if entry.ended:
            print(f"{entry.name}: {_how_it_ended(entry)}")
            code = code or int(entry.ended != "finished")
            continue
        if entry.submitted_ms is None and not _is_there(clients.of(entry), entry):
            print(_not_launched(entry), file=sys.stderr)
            code = code or 1
            continue
        left = None if until is None else max(0.0, until - time.monotonic())
        state = _job(clients.of(entry), entry).wait(left, poll_s=arguments.poll)
        print(f"{entry.name}: {state}")
        if state in ("waiting", "running"):
            return TIME_IS_OVER
        code = code or int(state != "finished")
    return code


def _how_it_ended(entry: Entry) -> str:
    """``has ended: killed (not launched: stopped before)``."""
    from trainers.sagemaker.watch.end import stored_outcome

    outcome = stored_outcome(entry)
    reason = "" if outcome is None or not outcome.reason else f" ({outcome.reason})"
    return f"has ended: {entry.ended}{reason}"


def _not_launched(entry: Entry) -> str:
    name = entry.name
    return (
        f"{name}: is recorded and not launched. To launch: python -m trainers.jobs watch {name}; to drop:"
        f" python -m trainers.jobs stop {name}"
    )


def _is_there(aws: Aws, entry: Entry) -> bool:
    """Whether there is a job of the name all the same: the answer to its launch may have been lost."""
    from trainers.ray.client import RayClient
    from trainers.sagemaker.errors import NotFound
    from trainers.sagemaker.job.launcher import SageMakerJob

    if entry.kind == KIND:
        return RayClient(entry.request["Address"]).info(entry.name) is not None
    try:
        SageMakerJob(aws, entry).describe(patience_s=20.0)
    except NotFound:
        return False
    return True


def _job(aws: Aws, entry: Entry) -> RayJob | SageMakerJob:
    from trainers.sagemaker.job.launcher import SageMakerJob

    return RayJob(entry) if entry.kind == KIND else SageMakerJob(aws, entry)


class _Clients:
    """AWS as each job was launched; ``--region`` and ``--profile`` say where to look for others."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from trainers.sagemaker.aws.client import Clients

        self._arguments, self._clients = arguments, Clients()

    def of(self, entry: Entry) -> Aws:
        return self._clients.of(entry.region, self._arguments.profile or entry.profile)

    def here(self) -> Aws:
        return self._clients.of(self._arguments.region, self._arguments.profile)


def _named(arguments: argparse.Namespace, store: Store, *, take_over: bool = False) -> list[Entry]:
    """The jobs that the command line names; one that is not known here is the account's.

    ``take_over`` makes a run of such a job here; otherwise it is only spoken to.
    """
    from trainers.sagemaker.job import ledger
    from trainers.sagemaker.watch.adopt import adopt

    found = []
    for word in dict.fromkeys(arguments.jobs):
        entry = ledger.find(store.journals, word)
        if entry is None:
            aws = _Clients(arguments).here()
        if entry is None and not take_over:
            entry = ledger.stranger(word, aws.region, arguments.profile)
        elif entry is None:
            entry = adopt(aws, word, store.journals, profile=arguments.profile, experiment=store.default_experiment)
        found.append(entry)
    return found


def _known(store: Store) -> Sequence[Entry]:
    from trainers.sagemaker.job import ledger

    return list(ledger.entries(store.journals, lambda text: print(f"trainers.jobs: {text}", file=sys.stderr)))


def _store() -> Store:
    from tracking.store import store

    return store.resolve()


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        print("no jobs")
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "trainers.jobs",
        __version__,
        description="Training jobs on SageMaker and Ray. A JOB is its name, its run's id, or the beginning of either.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, act: Any, text: str, jobs: str | int | None) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.set_defaults(act=act, jobs=[])
        if jobs is not None:
            made.add_argument("jobs", metavar="JOB", nargs=jobs)
        made.add_argument("--region", help="where to look for jobs that were not launched from here")
        made.add_argument("--profile", help="profile in AWS's files")
        return made

    watch = command("watch", _watch, "follow jobs to their end and log them to MLflow (default: all)", "*")
    watch.add_argument("-q", "--quiet", action="store_true", help="phases, without the log's lines")
    watch.add_argument("--stop-on", metavar="RULE,…", help="stop a job that one of these rules finds at fault")
    watch.add_argument("--notify", metavar="URL", action="append", help="send messages there by Apprise; repeatable")
    listed = command("list", _list, "jobs launched from here, with their state and cost", None)
    listed.add_argument("--account", action="store_true", help="every job of the account instead")
    listed.add_argument("--offline", action="store_true", help="what is known here, without asking AWS")
    listed.add_argument("--limit", type=int, default=50, metavar="N", help="the newest N (default 50)")
    logs = command("logs", _logs, "print a job's log", 1)
    logs.add_argument("--follow", action="store_true", help="and continue until it ends")
    command("stop", _stop, "end jobs; they keep the model they have", "+")
    wait = command("wait", _wait, "block until jobs have ended", "+")
    wait.add_argument("--timeout", type=float, metavar="S", help=f"at most so many seconds (exit code {TIME_IS_OVER})")
    from trainers.sagemaker.watch import adopt as history

    history.add_arguments(command("import", history.run, "bring the account's finished jobs into MLflow", None))
    from trainers.sagemaker.command import clean, setup

    setup.add_arguments(command("setup", setup.run, "what the account lacks for a first job, with policies", None))
    clean.add_arguments(command("clean", clean.run, "uploads in S3 that no job refers to, and what they cost", None))
    for made in (watch, logs, wait):
        made.add_argument("--poll", type=float, default=15.0, metavar="S", help="seconds between looks (default 15)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
