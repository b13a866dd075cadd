"""The jobs launched from here: a ``job.json`` beside each job's journal, enough to go on with it in another process.

It is written before the job is sent, so that a launcher that dies in between leaves a job that can be picked up, and
never two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tracking.journal.events import journals
from tracking.journal.files import whole_file
from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.job.request import types_of

FILE = "job.json"
BUILTIN, OWN = "sagemaker-builtin", "sagemaker"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One job: what is sent, where, and what is known of it. ``directory`` is its journal's.

    ``submitted_ms`` is None until AWS has taken it. ``queue`` (``name``, ``priority``, ``share``) is the queue of AWS
    Batch that it waits in, ``queue_job`` its id there; ``arn`` is then the newest attempt's training job.
    ``dataset`` is the data as the user named it, ``price`` the
    values of a ``pricing.Price``: the dearest where several machines will do, ``prices`` those of each. ``fallback``:
    the machines that the watcher takes next where AWS has none free, ``tried`` those of which it had none. ``ended``
    holds AWS's last status once everything about the job is in the journal. ``budget`` (``id``, ``usd``) is what all
    jobs with this id may cost together, in whichever process they are watched. ``stop_on``: rules that stop it.
    """

    name: str
    kind: str
    region: str
    profile: str | None
    request: Mapping[str, Any]
    experiment: str
    run_name: str | None = None
    dataset: str = ""
    created_ms: int = 0
    price: Mapping[str, Any] | None = None
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fallback: Sequence[str] = field(default_factory=list)
    tried: Sequence[str] = field(default_factory=list)
    budget: Mapping[str, Any] | None = None
    stop_on: Sequence[str] = field(default_factory=list)
    arn: str = ""
    queue: Mapping[str, Any] | None = None
    queue_job: str = ""
    submitted_ms: int | None = None
    ended: str = ""
    directory: Path = field(default=Path(), compare=False)

    @property
    def journal_id(self) -> str:
        """The id of the journal, and of the run it becomes."""
        return self.directory.name

    @property
    def training_job(self) -> str:
        """The name of its training job; "" where a queued job has none yet."""
        return self.name if self.queue is None else self.arn.rpartition("/")[2]

    @property
    def num_instances(self) -> int:
        """Machines asked for."""
        return int(self.request.get("ResourceConfig", {}).get("InstanceCount", 1))

    @property
    def instance_type(self) -> str:
        """The machine asked for."""
        return ",".join(types_of(self.request))

    @property
    def tags(self) -> dict[str, str]:
        """Those that the job has at its place."""
        return {tag["Key"]: tag["Value"] for tag in self.request.get("Tags", [])}

    def on_next_type(self) -> Entry:
        """The same job, not sent yet, on the next machine of ``fallback``, under the next name; saved."""
        resources = {k: v for k, v in self.request["ResourceConfig"].items() if k != "InstancePreferences"}
        former, (kind, *rest) = resources.get("InstanceType"), self.fallback
        request = {**self.request, "ResourceConfig": {**resources, "InstanceType": kind}}
        tried = [*self.tried, *([former] if former else [])]
        moved = replace(self, request=request, fallback=rest, tried=tried, submitted_ms=None, arn="")
        return moved.renamed() if former else moved.save()

    def renamed(self) -> Entry:
        """The same job under the next name; saved."""
        stem, _, number = self.name.rpartition("-")
        name = f"{stem}-{int(number) + 1:03d}" if number.isdigit() else f"{self.name[:59]}-001"
        changed = {**self.request, "TrainingJobName": name}
        checkpoints = changed.get("CheckpointConfig", {}).get("S3Uri", "")
        if self.name in checkpoints:
            changed["CheckpointConfig"] = {"S3Uri": checkpoints.replace(self.name, name)}
        return self.changed(name=name, request=changed)

    def save(self) -> Entry:
        """Write it down; a reader sees the former or this one, nothing between."""
        values = {key: value for key, value in asdict(self).items() if key != "directory"}
        path = self.directory / FILE
        try:
            with whole_file(path) as part:
                part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise TrainerError(f"{path} cannot be written ({error.strerror}); the job is not launched.") from error
        return self

    def changed(self, **values: Any) -> Entry:
        """A copy with other values, saved."""
        return replace(self, **values).save()


def stranger(name: str, region: str, profile: str | None) -> Entry:
    """A job of the account that is not in the ledger: enough to ask about it and to stop it."""
    return Entry(
        name=name,
        kind="",
        region=region,
        profile=profile,
        request={},
        experiment="",
        submitted_ms=0,
        directory=Path(name),
    )


def load(directory: Path) -> Entry | None:
    """The job of a journal, None when it is no job's. Raises TrainerError when its file is damaged."""
    path = directory / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Entry)}
        entry = Entry(**{key: value for key, value in values.items() if key in known}, directory=directory)
        if not (isinstance(entry.name, str) and isinstance(entry.created_ms, int)):
            raise TypeError("its name or time is none")
        return entry
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise TrainerError(f"{path} cannot be read: {error}. Bring it back, or watch the job by its name.") from error


def entries(root: Path, say: Callable[[str], None] | None = None) -> Iterator[Entry]:
    """Every job of the journals under ``root``, oldest first.

    One whose file is damaged is left out, with a sentence to ``say``. Without ``say``, where a job that is not known
    could be launched or paid twice, TrainerError is raised.
    """
    found = []
    for directory in journals(root):
        try:
            entry = load(directory)
        except TrainerError as error:
            if say is None:
                raise
            say(str(error))
            continue
        if entry is not None:
            found.append(entry)
    yield from sorted(found, key=lambda entry: (entry.created_ms, entry.name))


def unsent(root: Path) -> Iterator[Entry]:
    """The recorded jobs that are neither sent nor given up, oldest first; damaged ones are left out."""
    yield from (entry for entry in entries(root, _unsaid) if entry.submitted_ms is None and not entry.ended)


def find(root: Path, word: str) -> Entry | None:
    """The job with this name or journal id, or the only one that begins so; None when there is none.

    Raises BadInput when several begin so, TrainerError when the file of the one with this id is damaged.
    """
    known = list(entries(root, _unsaid))
    exact = [entry for entry in known if word in (entry.name, entry.journal_id)]
    found = exact or [entry for entry in known if entry.name.startswith(word) or entry.journal_id.startswith(word)]
    if len(found) > 1:
        listed = ", ".join(entry.name for entry in found[:5])
        raise BadInput(f"{word!r} could be {len(found)} jobs: {listed}. Give more of the name.")
    if not found and (root / word).is_dir():
        load(root / word)  # says what is wrong with its file
    return found[0] if found else None


def _unsaid(text: str) -> None:
    """Left out in silence."""
