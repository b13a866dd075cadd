"""How to use a run: its environment, the commands that repeat it, the code that loads its model."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reports.board.missing import retrain
from reports.document import text
from reports.document.document import Block, Bullets, Code, Heading, Listing, Paragraph, Strong, Text
from reports.runs.lookup import Run
from tracking import names
from tracking.frame import models
from tracking.frame.query import HasUri
from tracking.store import connection
from tracking.store.artifacts import fetch


def files(store: HasUri, run: Run) -> tuple[bool, bool, dict[str, Any]]:
    """Whether the config was logged, whether the model is one of MLflow's, and the environment as it was."""
    with TemporaryDirectory() as folder:
        config, flavor = (
            fetch(store.tracking_uri, run.artifact_uri, name, Path(folder)) is not None
            for name in ("config.toml", "model/MLmodel")
        )
        flavor = flavor or bool(models(store, run.run_id))
        found = fetch(store.tracking_uri, run.artifact_uri, "environment.json", Path(folder))
        try:
            environment = json.loads(found.read_text(encoding="utf-8")) if found is not None else {}
        except (OSError, ValueError):
            environment = {}
    return config, flavor, environment if isinstance(environment, dict) else {}


def environment_of(environment: Mapping[str, Any]) -> list[Block]:
    """Packages, code and machine, as far as they were written down."""
    items: list[Text] = []
    for key, value in environment.items():
        if key == "argv" or value in (None, "", {}, []):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {_word(v)}" for k, v in value.items() if v is not None)
        items.append((Strong(key), f": {text.one_line(_word(value))}"))
    return [Heading("Environment"), Bullets(tuple(items))] if items else []


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def rerun_blocks(run: Run, store: HasUri, has_config: bool, environment: Mapping[str, Any]) -> list[Block]:
    """How to repeat it."""
    git = environment.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    lines = [f"git checkout {commit}"] if isinstance(commit, str) and commit.isalnum() else []
    if has_config:
        lines += [*_download(run, store, "config.toml"), "python -m trainers.run --config config.toml"]
    elif run.is_ours:
        lines.append(retrain(run.params))
    if not lines:
        return []
    blocks: list[Block] = [Heading("How to repeat it"), Listing("\n".join(lines))]
    if isinstance(git, dict) and git.get("dirty"):
        blocks.append(Paragraph("The code had changes that were not committed, so the commit is not complete.", "note"))
    return blocks


def how_to_load(run: Run, store: HasUri, flavor: bool) -> list[Block]:
    """How to use its network."""
    title = Heading("How to load the model")
    if names.MODEL_URI in run.tags:
        return [title, Paragraph(("It is at ", Code(run.tags[names.MODEL_URI]), "."))]
    if not flavor:
        has_model = run.metric(names.MODEL_SIZE_BYTES) is not None
        return [title, Listing("\n".join(_download(run, store, "model")))] if has_model else []
    code = (
        "import mlflow\nimport numpy\nfrom PIL import Image\n\n"
        f"mlflow.set_tracking_uri({connection.public(store.tracking_uri)!r})\n"
        f'model = mlflow.pyfunc.load_model("runs:/{run.run_id}/model")  # MXNet need not be installed\n'
        'pictures = numpy.asarray(Image.open("picture.png"))[None]  # (N, H, W) or (N, H, W, 3), 0..255\n'
        "model.predict(pictures)  # class_name, probability, one row a picture"
    )
    return [title, Listing(code, "python")]


def _download(run: Run, store: HasUri, path: str) -> list[str]:
    """The shell lines that fetch an artifact; MLflow needs the store's URI, which is not its default."""
    return [
        f"export MLFLOW_TRACKING_URI={shlex.quote(connection.public(store.tracking_uri))}",
        f"mlflow artifacts download --run-id {run.run_id} --artifact-path {path} --dst-path .",
    ]
