"""Two runs or more on the same pictures: numbers by hand, pairing by content, pictures where they lie at hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag
from PIL import Image

import reports
from reports import stats
from reports.charts import thumbnails
from reports.claims.verdict import judge_pair as judge
from reports.document.document import Figure, Paragraph, Table, plain
from tests.support.runs import Filler, empty_store, predictions, trained
from tracking.store.predictions import Predictions


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def log(
    filler: Filler, run_id: str, tmp_path: Path, digests: list[str], predicted: list[int], **rest: list[object]
) -> None:
    """Predictions of pictures whose label is 0."""
    frame = pd.DataFrame(
        {
            "image_digest": digests,
            "key": rest.get("key", digests),
            "label": 0,
            "predicted": predicted,
            "probability": rest.get("probability", [0.5] * len(digests)),
        }
    )
    folder = tmp_path / run_id
    folder.mkdir()
    frame.to_parquet(folder / "test.parquet")
    filler.client.log_artifact(run_id, str(folder / "test.parquet"), "predictions")


def test_the_pair_by_hand(filler: Filler, tmp_path: Path) -> None:
    """20 pictures: 8 only the first gets right, 2 only the second; p = 112 / 1024."""
    digests = [f"{i:02d}" for i in range(20)]
    first, second = (filler.run(**trained(d, test=t, images=20)) for d, t in ((44, 0.8), (34, 0.5)))
    log(filler, first, tmp_path, digests, [0] * 8 + [1] * 2 + [0] * 8 + [1] * 2)
    # The same pictures in another order.
    log(filler, second, tmp_path, digests[::-1], ([1] * 8 + [0] * 2 + [0] * 8 + [1] * 2)[::-1])
    paper = reports.compare([first, second], filler.uri)
    [one] = paper.data["tests"]
    assert (one["num_images"], one["only_first"], one["only_second"]) == (20, 8, 2)
    assert one["p_value"] == one["p_value_holm"] == pytest.approx(0.109375)
    assert one["difference"] == pytest.approx(0.3)
    text = paper.to_text()
    assert "30.0 points above 34 layers, scratch, seed 0 (50.0 %); between these networks the" in text
    assert "the difference is not significant (exact" in text
    assert "8 that only the first gets right, 2 only the second, p = 0.11)" in text
    assert "They agree on 50.0 % of the 20 pictures." in text
    assert "| num_layers | 44" in text and "epochs" not in text.partition("## Scores")[0].partition("## Settings")[2]
    turned = reports.compare([second, first], filler.uri)
    assert "8 that only the first gets right, 2 only the second" in turned.to_text().partition("## Settings")[0]
    assert json.loads(paper.to_text("json"))["tests"][0]["only_first"] == 8


def test_the_verdict_is_on_the_pictures_that_both_have() -> None:
    def of(digests: list[str], predicted: list[int]) -> Predictions:
        return Predictions(
            digest=np.array(digests, dtype=object),
            key=np.array(digests, dtype=object),
            label=np.zeros(len(digests), dtype=np.int64),
            predicted=np.array(predicted),
            probability=np.ones(len(digests)),
        )

    a, b = of(["only-a", "x", "x", "y"], [0, 0, 1, 0]), of(["only-b", "x", "x", "y"], [0, 0, 0, 1])
    verdict = judge(a, b)
    assert verdict is not None and (verdict.num_images, verdict.only_first, verdict.only_second) == (3, 1, 1)
    assert judge(a, of(["z"], [0])) is None


def test_three_runs_are_corrected_and_agree(filler: Filler) -> None:
    ids = []
    for depth, score in ((44, 0.97), (34, 0.95), (20, 0.80)):
        ids.append(filler.run(**trained(depth, test=score)))
        predictions(filler, ids[-1], score, seed=depth)
    paper = reports.compare(ids, filler.uri)
    raw = [t["p_value"] for t in paper.data["tests"]]
    assert [t["p_value_holm"] for t in paper.data["tests"]] == pytest.approx(stats.holm(raw).tolist())
    assert "after Holm's correction for 3 pairs" in paper.to_text() and "### Agreement" in paper.to_text()
    [figure] = [b for b in paper.document.blocks if isinstance(b, Figure) and b.name == "differences"]
    assert figure.alt.count(" to ") == 3


def test_other_pictures_and_no_predictions_are_said(filler: Filler) -> None:
    a, b = filler.run(**trained(44, digest="one")), filler.run(**trained(34, digest="two", test=0.9))
    text = reports.compare([a, b], filler.uri).to_text()
    assert "> **Warning:** These runs were tested on 2 different sets of pictures." in text
    assert "whether that is chance is unknown" in text and "No paired test is possible: 44 layers" in text
    c = filler.run(**trained(34, digest="two", test=None))
    text = reports.compare([b, c], filler.uri).to_text()
    assert f"({c[:8]}) has no test accuracy, so which run is better is unknown. To compute it: " in text
    assert f"`python -m trainers.evaluate {c}`" in text and b not in text


def test_runs_of_another_tool_have_their_metrics_side_by_side(filler: Filler) -> None:
    ids = [filler.run(name, params={"lr": lr}, metrics={"acc": acc, "loss": 3}) for name, lr, acc in FOREIGN]
    text = reports.compare(ids, filler.uri).to_text().replace("\u00a0", " ")
    assert "a and b have no test accuracy, so which run is better is unknown.\n" in text
    assert "| acc  | 0.9000 | 0.8125 |" in text and "| loss |      3 |      3 |" in text and "Wilson" not in text


FOREIGN = [("a", 0.1, 0.9), ("b", 0.2, 0.8125)]


def test_equal_scores_and_equal_names(filler: Filler) -> None:
    a, b = (filler.run(**(trained(44, test=0.9) | {"name": "twin"})) for _ in range(2))
    text = reports.compare([a, b], filler.uri).to_text()
    assert f"twin ({a[:8]})" in text and f"twin ({b[:8]})" in text and "have equal scores: 90.0 %" in text


def with_source(filler: Filler, run_id: str, source: Path | str) -> None:
    data = Dataset("pictures", "d1", "local", json.dumps({"uri": str(source)}), profile='{"num_images": 3}')
    filler.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "test")])])


def test_the_pictures_themselves_where_they_lie_at_hand(filler: Filler, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "cat"
    folder.mkdir(parents=True)
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (20, 12), colour).save(folder / f"{i}.png")
    digests = [hashlib.blake2b((folder / f"{i}.png").read_bytes(), digest_size=16).hexdigest() for i in range(3)]
    keys = [f"cat/{i}.png" for i in range(3)]
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes())  # changed since: not shown
    a, b = filler.run(**trained(44, test=1.0, images=3)), filler.run(**trained(34, test=0.0, images=3))
    log(filler, a, tmp_path, digests, [0, 0, 0], key=keys)
    log(filler, b, tmp_path, digests, [1, 1, 1], key=keys, probability=[0.5, 0.9, 0.7])
    with_source(filler, a, tmp_path / "pictures")
    paper = reports.compare([a, b], filler.uri)
    [sheet] = [f for f in paper.document.figures() if f.name.startswith("only")]
    assert sheet.svg.count("<image") == 2 and sheet.alt.startswith("2 pictures: 0, not 1")
    [table] = [t for t in paper.document.blocks if isinstance(t, Table) and t.columns[0].title == "picture"]
    # The most certain mistake comes first.
    assert [plain(c) for c in table.columns[0].cells] == ["cat/1.png", "cat/2.png", "cat/0.png"]


def test_only_whole_picture_files_are_shown(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("no picture")
    digest = hashlib.blake2b(b"no picture", digest_size=16).hexdigest()
    for source, key in ((str(tmp_path), "words.txt"), (str(tmp_path), "t10k-images[1]"), ("", "x"), ("", "nul\0")):
        assert thumbnails.picture(source, key, digest) is None


def test_a_notebook_shows_it(filler: Filler) -> None:
    ids = [filler.run(**trained(d)) for d in (44, 34)]
    paper = reports.compare(ids, filler.uri)
    assert 'class="answer"' in paper._repr_html_() and any(isinstance(b, Paragraph) for b in paper.document.blocks)
