"""One run's card: what it learned from, how it was set, how well it does, what it took, how to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from reports import cells, curves, figures, perclass, stats, text
from reports.comparison import score_text
from reports.document import Block, Bullets, Code, Column, Document, Heading, Listing, Paragraph, Strong, Table, Text
from reports.lookup import Data, Run, data_of, find
from reports.missing import retrain
from reports.paper import Paper
from reports.predictions import Predictions, artifact, class_names, load
from tracking import names
from tracking.frame import HasUri, models

_EFFORT = (
    *("starting_s", "downloading_s", "training_s", "uploading_s", "interrupted_s", "stopping_s"),
    *(names.TRAINING_TIME_S, names.TOTAL_TIME_S, names.BILLABLE_TIME_S, names.COST_USD, names.SPOT_SAVING),
    *(names.IMAGES_PER_S, names.NUM_PARAMETERS, names.MODEL_SIZE_BYTES),
)
_PLACE = (names.LAUNCHER, names.INSTANCE_TYPE, names.INSTANCE_COUNT, names.REGION, names.PRICE, names.JOB_NAME)


def run_card(run_id: str, store: HasUri | str | None = None) -> Paper:
    """The card of one run, by its id or the beginning of it. Raises ReportError when there is no such run."""
    opened, (run,) = find([run_id], store)
    data = data_of(run, opened)
    predicted = {split: load(opened, run.run_id, run.artifact_uri, split) for split in ("validation", "test")}
    config, flavor, environment = _files(opened, run)
    paper = Document(run.label)
    paper.add(Paragraph(_answer(run), "answer"), *_state(run))
    paper.add(*_scores(run), *_data(data))
    drawn = curves.of_rows(opened, [(run.label, (run.run_id,))])
    if drawn:
        paper.add(Heading("Learning curve"), figures.learning_curves("curves", drawn, caption=""))
    test = predicted["test"]
    if test is not None:
        paper.add(*_by_class(opened, run, test), *_calibration(test))
    paper.add(*_effort(run), *_settings(run), *_environment(environment))
    paper.add(*_again(run, config, environment), *_load(run, flavor))
    return Paper(paper, _as_data(run, data, test))


def _answer(run: Run) -> Text:
    words = []
    for key, unit in (("num_layers", " layers"), ("init", ""), ("epochs", " epochs"), ("dataset", "")):
        value = run.tags.get(names.INIT_LABEL, run.params.get(key)) if key == "init" else run.params.get(key)
        if value is not None:
            words.append(f"{'on ' if key == 'dataset' else ''}{text.one_line(value)}{unit}")
    head = f"{text.join(words, '') if len(words) < 2 else ', '.join(words[:-1]) + ' ' + words[-1]}: " if words else ""
    if names.PRETEXT in run.tags:
        return f"{head}learned a made-up task ({run.tags[names.PRETEXT]}), a source for transfer and no candidate."
    accuracy = run.metric(names.TEST_ACCURACY)
    if accuracy is None:
        evaluate = Code(f"python -m trainers.evaluate {run.run_id}")
        return (f"{head}no test accuracy. What fills it: ", evaluate, ".")
    images = run.metric(names.num_images("test"))
    on = f" on {text.count(images)} pictures it had never seen" if images is not None else ""
    return (head, Strong(score_text(run, names.TEST_ACCURACY)), f" test accuracy{on}.")


def _state(run: Run) -> list[Block]:
    """How it ended, where that was not well, and what cannot be true."""
    blocks: list[Block] = []
    if run.status != "FINISHED":
        reason = run.tags.get(names.STATUS_REASON) or run.tags.get(names.ERROR_TYPE) or "no reason was recorded"
        advice = run.tags.get(names.ADVICE)
        said = f"{run.status}: {text.one_line(reason)}{f' ({text.one_line(advice)})' if advice else ''}"
        blocks.append(Paragraph(said, "warning"))
    blocks += [
        Paragraph(f"{metric} is {text.number(value, 6)}, which it cannot be; the value is left out.", "warning")
        for metric, value in run.impossible
    ]
    if names.FLAGGED in run.tags:
        blocks.append(Paragraph(f"{text.one_line(run.tags[names.FLAGGED])}.", "warning"))
    overlap = run.tags.get(names.TEST_OVERLAP)
    if overlap and overlap != "0":
        blocks.append(Paragraph(f"{overlap} test pictures were trained on, so the test score flatters.", "warning"))
    return blocks


def _data(data: list[Data]) -> list[Block]:
    if not data:
        return []
    columns = [
        Column("split", False, [d.context for d in data]),
        Column("data", False, [text.one_line(d.name) for d in data]),
        Column("pictures", True, [text.count(d.num_images) for d in data], [d.num_images for d in data]),
        Column("classes", True, [text.count(d.num_classes) for d in data], [d.num_classes for d in data]),
        Column("content digest", False, [(Code(d.digest),) for d in data]),
        Column("from", False, [(Code(d.source),) if d.source else text.MISSING for d in data]),
    ]
    return [Heading("Data"), Table(tuple(columns))]


def _settings(run: Run) -> list[Block]:
    known = [key for key in names.PARAMS if key in run.params]
    idle = [key for key in known if not _has_effect(key, run)]
    keys = [*(k for k in known if k not in idle), *sorted(set(run.params) - set(known))]
    if not keys:
        return []
    values = [text.one_line(text.number(run.params[k], 6)) for k in keys]
    meaning = [names.PARAMS[k].help if k in names.PARAMS else "" for k in keys]
    columns = (
        Column("setting", False, [(Code(k),) for k in keys]),
        Column("value", False, values),
        Column("meaning", False, [m if len(m) < 90 else m[:88].rstrip() + "…" for m in meaning]),
    )
    blocks: list[Block] = [Heading("Settings"), Table(columns)]
    if idle:
        blocks.append(Paragraph(f"Without effect beside these: {text.join(idle)}.", "note"))
    return blocks


def _has_effect(key: str, run: Run) -> bool:
    """Whether a setting does anything beside the run's others, such as momentum beside adam."""
    used_with = names.PARAMS[key].used_with
    return used_with is None or used_with[0] not in run.params or run.params[used_with[0]] in used_with[1]


def _scores(run: Run) -> list[Block]:
    splits = [s for s in names.SPLITS if f"{s}_accuracy" in run.metrics or f"{s}_loss" in run.metrics]
    if not splits:
        return []
    top5 = [score_text(run, names.top_k_accuracy(s, 5)) for s in splits]
    losses = [run.metric(f"{s}_loss") for s in splits]
    images = [run.metric(names.num_images(s)) for s in splits]
    accuracy = [score_text(run, _accuracy_key(run, s)) for s in splits]
    columns = [
        Column("split", False, splits),
        Column("accuracy (95 % interval)", True, accuracy),
        Column("loss", True, [text.number(v) for v in losses], losses),
    ]
    if any(t != text.MISSING for t in top5):
        columns.append(Column("top-5", True, top5))
    columns.append(Column("pictures", True, [text.count(i) for i in images], images))
    epoch = run.metric(names.BEST_EPOCH)
    kept = f" The kept checkpoint is that of epoch {text.number(epoch)}." if epoch is not None else ""
    said = "Train: running accuracy of the last epoch. Intervals are Wilson's for the number of pictures."
    return [Heading("Scores"), Table(tuple(columns)), Paragraph(said + kept, "note")]


def _accuracy_key(run: Run, split: str) -> str:
    best = names.BEST_VALIDATION_ACCURACY
    return best if split == "validation" and best in run.metrics else f"{split}_accuracy"


def _by_class(store: HasUri, run: Run, test: Predictions) -> list[Block]:
    size = 1 + int(max(test.label.max(), test.predicted.max()))
    classes = class_names(store, run.run_id, run.artifact_uri, size)
    counts = perclass.confusion(test, max(size, len(classes)) if len(classes) <= 60 else size)
    blocks: list[Block] = [Heading("By class"), perclass.table(counts, classes)]
    if len(counts) <= 60:
        blocks.append(
            figures.confusion("confusion", counts.tolist(), classes[: len(counts)], "Test pictures by class.")
        )
    return blocks


def _calibration(test: Predictions) -> list[Block]:
    if not np.isfinite(test.probability).all():
        return []
    bins, error = stats.calibration(test.probability, test.hits)
    sure, right = float(test.probability.mean()), float(test.hits.mean())
    word = "surer than it is right" if sure > right else "less sure than it is right"
    said = (
        f"On average it gives its answer {text.percent(sure)} and is right {text.percent(right)} of the time:"
        f" {word}. Expected calibration error {text.percent(error)}."
    )
    return [Heading("Calibration"), Paragraph(said), figures.reliability("calibration", bins, error)]


def _effort(run: Run) -> list[Block]:
    rows = [
        (names.ALL[("metric", k)].title, cells.value_text(k, run.metric(k)))
        for k in _EFFORT
        if run.metric(k) is not None
    ]
    places = [(names.ALL[("tag", k)].title, text.one_line(run.tags[k])) for k in _PLACE if k in run.tags]
    if not rows and not places:
        return []
    table = Table(
        (Column("", False, [r[0] for r in (*rows, *places)]), Column("value", True, [r[1] for r in (*rows, *places)]))
    )
    return [Heading("What it took"), table]


def _files(store: HasUri, run: Run) -> tuple[bool, bool, dict[str, Any]]:
    """Whether the config was logged, whether the model is one of MLflow's, and the environment as it was."""
    with TemporaryDirectory() as folder:
        config, flavor = (
            artifact(store, run.run_id, run.artifact_uri, name, Path(folder)) is not None
            for name in ("config.toml", "model/MLmodel")
        )
        flavor = flavor or bool(models(store, run.run_id))
        found = artifact(store, run.run_id, run.artifact_uri, "environment.json", Path(folder))
        try:
            environment = json.loads(found.read_text(encoding="utf-8")) if found is not None else {}
        except ValueError:
            environment = {}
    return config, flavor, environment if isinstance(environment, dict) else {}


def _environment(environment: Mapping[str, Any]) -> list[Block]:
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


def _again(run: Run, has_config: bool, environment: Mapping[str, Any]) -> list[Block]:
    """How to repeat it."""
    git = environment.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    lines = [f"git checkout {commit}"] if isinstance(commit, str) and commit.isalnum() else []
    if has_config:
        lines += [_download(run, "config.toml"), "python -m trainers.run --config config.toml"]
    else:
        lines.append(retrain(run.params))
    blocks: list[Block] = [Heading("How to repeat it"), Listing("\n".join(lines))]
    if isinstance(git, dict) and git.get("dirty"):
        blocks.append(
            Paragraph("The code had changes that were not committed, so the commit alone is not all of it.", "note")
        )
    return blocks


def _load(run: Run, flavor: bool) -> list[Block]:
    """How to use its network."""
    title = Heading("How to load the model")
    if names.MODEL_URI in run.tags:
        return [title, Paragraph(("It lies at ", Code(run.tags[names.MODEL_URI]), "."))]
    if not flavor:
        has_model = run.metric(names.MODEL_SIZE_BYTES) is not None
        return [title, Listing(_download(run, "model"))] if has_model else []
    code = (
        "import mlflow\nimport numpy\nfrom PIL import Image\n\n"
        f'model = mlflow.pyfunc.load_model("runs:/{run.run_id}/model")  # MXNet need not be installed\n'
        'pictures = numpy.asarray(Image.open("picture.png"))[None]  # (N, H, W) or (N, H, W, 3), 0..255\n'
        "model.predict(pictures)  # class_name, probability, one row a picture"
    )
    return [title, Listing(code, "python")]


def _download(run: Run, path: str) -> str:
    return f"mlflow artifacts download --run-id {run.run_id} --artifact-path {path} --dst-path ."


def _as_data(run: Run, data: list[Data], test: Predictions | None) -> dict[str, Any]:
    from reports.data import FORMAT, plain

    accuracy, images = run.metric(names.TEST_ACCURACY), run.metric(names.num_images("test"))
    low, high = stats.wilson(np.nan if accuracy is None else accuracy, np.nan if images is None else images)
    return {
        "format": FORMAT,
        "run_id": run.run_id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "params": plain(run.params),
        "metrics": plain(run.metrics),
        "test_accuracy_low": plain(low),
        "test_accuracy_high": plain(high),
        "calibration_error": None if test is None else plain(stats.calibration(test.probability, test.hits)[1]),
        "data": [
            {"context": d.context, "name": d.name, "digest": d.digest, "num_images": d.num_images, "source": d.source}
            for d in data
        ],
        "impossible": [{"metric": m, "value": plain(v)} for m, v in run.impossible],
    }
