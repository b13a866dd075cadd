"""Which model is in use: a registered model's alias, moved only to a better one, and back.

The challenger's score on the validation split decides, on the same pictures as the champion's; a paired test can be
asked for. What replaced what, and why, is written on the model's version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracking.errors import ModelError
from tracking.models.facts import MLMODEL
from tracking.registry import audit, rivals
from tracking.registry.candidates import Candidate, candidate_of, choosing_direction
from tracking.store import artifacts, moved
from tracking.store.connection import locked, translated
from tracking.store.predictions import FOLDER, McNemar, Predictions, common, load, mcnemar

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tracking.store import Store

LEVEL = 0.05
PATIENCE_S = 120.0  # with another promotion in the same file
_HAS_IT = "it has the alias already"
_MODEL_TAG = "model_id"
_MAX_CHARACTERS = 255
_FORBIDDEN = set("/:'\"\\")  # the first two MLflow refuses, the others end a name in its queries
_ALIAS, _RESERVED = re.compile(r"[\w-]+", re.ASCII), re.compile(r"latest|v\d+", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Move:
    """What became of an alias: from which version (None: it was not set) to which; ``why`` in words."""

    name: str
    alias: str
    former: str | None
    version: str | None
    moved: bool
    why: str


def promote(
    store: Store,
    challenger: Candidate,
    name: str,
    alias: str = "champion",
    *,
    significant: bool = False,
    force: bool = False,
) -> Move:
    """Register the challenger's model under ``name`` and give it the alias, if it is better than the one that has it.

    ``significant``: also demand that McNemar's exact test on the validation pictures finds a difference (p < 0.05).
    ``force``: move it regardless of the scores. ``Move.moved`` is False where the challenger was refused. Raises
    ModelError, StoreError.
    """
    check_names(name, alias)
    client = store.client()
    with translated(store.tracking_uri), _alone(store):
        _check_files(store, challenger)
        claim, version = None, ""
        while True:
            holder = _holder(client, name, alias)
            former = _number(holder)
            allowed, why = _verdict(client, challenger, holder, significant, force)
            if not allowed:
                if claim is not None:
                    claim.mark("lost")
                return Move(
                    name=name,
                    alias=alias,
                    former=former,
                    version=former if why == _HAS_IT else None,
                    moved=False,
                    why=why,
                )
            if claim is not None:
                break
            version = _version(client, challenger, name)
            if store.database is not None:
                break
            claim = rivals.Claim(client, name, alias, version)  # and look again: another may have moved it meanwhile
        client.set_registered_model_alias(name, alias, version)
        now = audit.moment()
        if claim is not None:
            claim.mark("set")
            taken, lost, now = _look_again(client, challenger, name, alias, version, former, claim, force, now)
            if lost:
                claim.mark("lost")
                return Move(name=name, alias=alias, former=taken, version=None, moved=False, why=lost)
            if taken != former and taken is not None:
                former = taken
                why = _verdict(client, challenger, client.get_model_version(name, taken), significant, force)[1]
        _note_score(client, name, version, challenger)
        audit.write_down(client, name, alias, version, former, f"{challenger}; {why}", now, claim)
        return Move(name=name, alias=alias, former=former, version=version, moved=True, why=why)


def demote(store: Store, name: str, alias: str = "champion") -> Move:
    """Give the alias back to the version that had it before; without one it is taken away. Raises ModelError."""
    check_names(name, alias)
    client = store.client()
    with translated(store.tracking_uri), _alone(store):
        holder = _holder(client, name, alias)
        if holder is None:
            raise ModelError(f"no version of {name!r} has the alias {alias!r}.")
        current, holders = str(holder.version), audit.holders_of(client, name, alias)
        if rivals.tag(alias) in holder.tags:  # it is no other promotion's rival any more
            client.delete_model_version_tag(name, current, rivals.tag(alias))
        if current in holders:
            del holders[len(holders) - 1 - holders[::-1].index(current) :]
        if not holders:
            client.delete_registered_model_alias(name, alias)
            audit.set_holders(client, name, alias, [])
            audit.note(client, name, f"{alias}: taken from version {current}, no version had it before")
            return Move(
                name=name, alias=alias, former=current, version=None, moved=True, why="no version had it before"
            )
        former = holders[-1]
        try:
            client.get_model_version(name, former)
        except Exception as error:
            if not _is_absent(error):
                raise
            raise ModelError(
                f"version {former} of {name!r}, which had the alias {alias!r} before, was deleted; promote another run."
            ) from error
        client.set_registered_model_alias(name, alias, former)
        audit.set_holders(client, name, alias, holders)
        audit.note(client, name, f"{alias}: back from version {current} to {former}")
        return Move(
            name=name,
            alias=alias,
            former=current,
            version=former,
            moved=True,
            why=f"back to the version that had it before version {current}",
        )


def check_names(name: str, alias: str) -> None:
    """Raise ModelError for what MLflow would refuse as a model's name or an alias, before anything is registered."""
    faults = []
    if not name.strip(" .") or len(name) > _MAX_CHARACTERS or set(name) & _FORBIDDEN or not name.isprintable():
        faults.append(f"model name {name!r}: legal are up to {_MAX_CHARACTERS} characters without / : ' \" and \\")
    if not _ALIAS.fullmatch(alias) or len(alias) > _MAX_CHARACTERS or _RESERVED.fullmatch(alias):
        faults.append(
            f"alias {alias!r}: legal are letters, digits, _ and -; latest, and v with a number, are MLflow's own"
        )
    if faults:
        raise ModelError(f"{'; '.join(faults)}.")


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Lock the store's file, if there is one, from the first look to the last write."""
    if store.database is None:
        yield
        return
    with locked(store.database.with_name(f"{store.database.name}.promotion"), PATIENCE_S, "promoting in"):
        yield


def _verdict(
    client: MlflowClient, challenger: Candidate, holder: Any, significant: bool, force: bool
) -> tuple[bool, str]:
    """Whether the challenger gets the alias that ``holder`` has (None: no version has it), and why or why not."""
    if holder is None:
        return True, "the first"
    if holder.tags.get(_MODEL_TAG) == challenger.model_id:
        return False, _HAS_IT
    allowed, why = _judge(client, challenger, holder, significant)
    return (True, f"forced, although {why}") if force and not allowed else (allowed, why)


def _look_again(
    client: MlflowClient,
    challenger: Candidate,
    name: str,
    alias: str,
    version: str,
    former: str | None,
    claim: rivals.Claim,
    force: bool,
    now: str,
) -> tuple[str | None, str, str]:
    """After the alias was moved (at ``now``): which version had it before and when; or which has it, why it was lost.

    Of promotions at the same time the best one keeps it, regardless of which moved it last.
    """
    while True:
        holder = _holder(client, name, alias)
        current = _number(holder)
        if current == version:
            others = {} if force else claim.rivals("set", "done")
            others.pop(former or "", None)  # judged already
            better = [one for one in others.values() if not _wins(client, challenger, version, one)]
            if not better:
                return former, "", now
            client.set_registered_model_alias(name, alias, _number(better[0]) or "")
        elif current in claim.rivals("open", "set", "done") and (force or _wins(client, challenger, version, holder)):
            former = current
            client.set_registered_model_alias(name, alias, version)
            now = audit.moment()
        else:
            return current, f"version {current} was given it at the same time", now


def _wins(client: MlflowClient, challenger: Candidate, version: str, rival: Any) -> bool:
    """Whether the challenger, as ``version``, is better than a rival; of equal ones the first has it."""
    known = _known(client, rival, challenger.metric)
    if known is None or known[1] != challenger.digest or known[0] == challenger.score:
        return int(version) < int(rival.version)
    return (challenger.score > known[0]) == choosing_direction(challenger.metric)


def _number(version: Any) -> str | None:
    return None if version is None else str(version.version)


def _judge(client: MlflowClient, challenger: Candidate, former: Any, significant: bool) -> tuple[bool, str]:
    """Whether the challenger may replace the version ``former``, and why or why not."""
    known = _known(client, former, challenger.metric)
    if known is None:
        return False, f"version {former.version} has no {challenger.metric} to compare with"
    score, digest, champion = known
    if digest != challenger.digest:
        return False, (
            f"version {former.version} was scored on other pictures ({digest} against {challenger.digest}); the two"
            " scores do not compare"
        )
    by = f"{challenger.metric} {challenger.score:.4f} against {score:.4f} of version {former.version}"
    ahead = challenger.score - score if choosing_direction(challenger.metric) else score - challenger.score
    if ahead <= 0:
        return False, f"{by} is not better"
    if not significant:
        return True, by
    if champion is None:
        return False, f"the run of version {former.version} is gone, and with it the answers for a paired test"
    test = _paired(client, challenger, champion)
    counts = f"right alone on {test.only_first} pictures, wrong alone on {test.only_second}, p = {test.p_value:.3g}"
    if test.p_value >= LEVEL or test.only_first <= test.only_second:
        return False, f"{by}, but the difference is not significant: {counts}"
    return True, f"{by}; {counts}"


def _known(client: MlflowClient, version: Any, metric: str) -> tuple[float, str | None, Candidate | None] | None:
    """A version's score, on which pictures, and the run behind it where it is still there; None without a score."""
    champion = _champion(client, version, metric)
    if champion is not None:
        return champion.score, champion.digest, champion
    noted = version.tags.get(f"score.{metric}")
    return None if noted is None else (float(noted), version.tags.get(f"score.{metric}.digest") or None, None)


def _champion(client: MlflowClient, version: Any, metric: str) -> Candidate | None:
    """The run behind a version, None where it is gone, or where the version was registered without a run."""
    if not version.run_id:
        return None
    try:
        return candidate_of(client, client.get_run(version.run_id), metric)
    except Exception as error:
        if isinstance(error, ModelError) or _is_absent(error):
            return None
        raise


def _paired(client: MlflowClient, challenger: Candidate, champion: Candidate) -> McNemar:
    """McNemar's test on all pictures of the split. Raises ModelError where a run has no predictions, or others."""
    split = challenger.metric.split("_", 1)[0]
    first, second = (_predictions(client, one.run_id, split) for one in (challenger, champion))
    pictures, others = set(first.pictures), set(second.pictures)
    if pictures != others:
        raise ModelError(
            f"the predictions of run {challenger.run_id[:8]} and run {champion.run_id[:8]} are of different pictures"
            f" ({len(pictures ^ others)} of {len(pictures | others)} are in one only), so they cannot be paired."
        )
    first, second = common([first, second])
    return mcnemar(first.hits, second.hits)


def _predictions(client: MlflowClient, run_id: str, split: str) -> Predictions:
    found = load(client.tracking_uri, client.get_run(run_id).info.artifact_uri, split)
    if found is None:
        if why := moved.why_missing(client.tracking_uri, client.get_run(run_id).info.artifact_uri):
            raise ModelError(f"the artifacts of run {run_id[:8]} are missing: {why}")
        raise ModelError(f"run {run_id[:8]} has no {FOLDER}/{split}.parquet, which the paired test needs.")
    return found


def _holder(client: MlflowClient, name: str, alias: str) -> Any:
    """The version that has the alias, None where there is none."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except Exception as error:
        if _is_absent(error):
            return None
        raise


def _version(client: MlflowClient, challenger: Candidate, name: str) -> str:
    """The version of the challenger's model, made where it was not registered before."""
    try:
        client.get_registered_model(name)
    except Exception as error:
        if not _is_absent(error):
            raise
        client.create_registered_model(name)
    for version in client.search_model_versions(f"name = '{name}' and run_id = '{challenger.run_id}'"):
        if version.tags.get(_MODEL_TAG) == challenger.model_id:
            return str(version.version)
    # By its place, not as models:/<id>: MLflow looks that up in the process's own store, whichever client asks.
    made = client.create_model_version(
        name,
        client.get_logged_model(challenger.model_id).artifact_location,
        run_id=challenger.run_id,
        tags={_MODEL_TAG: challenger.model_id},
        model_id=challenger.model_id,
    )
    return str(made.version)


def _check_files(store: Store, challenger: Candidate) -> None:
    """Raise ModelError where the model's files are not where MLflow says, or are there as another store's."""
    location = store.client().get_logged_model(challenger.model_id).artifact_location
    folder = artifacts.local_folder(location)
    if folder is None or not artifacts.is_reachable(folder, store.tracking_uri):
        return
    if (move := moved.move_of(store.tracking_uri, location)) is not None:
        raise ModelError(f"the model of run {challenger.run_id[:8]} cannot be promoted: {moved.sentence(move)}")
    if not (folder / MLMODEL).is_file():
        raise ModelError(
            f"the model of run {challenger.run_id[:8]} cannot be promoted: its files should be in {folder}, and there"
            f" is no {MLMODEL}; bring them back, or log it anew with `python -m tracking log-model`"
        )


def _note_score(client: MlflowClient, name: str, version: str, challenger: Candidate) -> None:
    client.set_model_version_tag(name, version, f"score.{challenger.metric}", repr(challenger.score))
    client.set_model_version_tag(name, version, f"score.{challenger.metric}.digest", challenger.digest or "")


def _is_absent(error: Exception) -> bool:
    """MLflow says an alias that is not set, or a model that does not exist, in two ways."""
    code = getattr(error, "error_code", "")
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in str(error))
