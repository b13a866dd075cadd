"""What the leaderboard's page says: the answer, the summary, what is missing, what looks wrong; two golden files."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

import reports
import tracking
from reports.board import answer as answers
from reports.board import checks, evidence, missing, page
from reports.charts import figures
from reports.document.document import Figure, Paragraph, Table, plain
from tests.support import GOLDEN
from tests.support.runs import Filler, demo, empty_store, new_store, predictions, trained
from tests.support.stores import make_store


@pytest.fixture
def filler() -> Filler:
    return empty_store()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Filler, dict[str, list[str]]]:
    filler = new_store(tmp_path_factory.mktemp("full"))
    return filler, demo(filler)


def answer(filler: Filler, **asked: Any) -> str:
    blocks = page.document(reports.leaderboard(filler.uri, **asked).board, with_figures=False).blocks
    return next(plain(b.text) for b in blocks if isinstance(b, Paragraph) and b.tone == "answer")


def notes(filler: Filler) -> list[str]:
    """How the answer was found."""
    board = reports.leaderboard(filler.uri).board
    return [plain(note.text) for note in answers.notes(board.pages[0], board.ask)]


def findings(filler: Filler, **asked: Any) -> list[str]:
    return [f.text for f in reports.leaderboard(filler.uri, **asked).board.findings]


def named(text: str, made: dict[str, list[str]]) -> str:
    """The text with the store's random run ids replaced by what the runs are."""
    for name, ids in made.items():
        for i, run_id in enumerate(ids):
            said = f"{name}-{i}"
            text = text.replace(run_id, said.ljust(32, "x")).replace(run_id[:8], said[:8].ljust(8, "x"))
    return text


def faulty(filler: Filler) -> dict[str, list[str]]:
    """A store with every fault that a page can show; run ids by what is wrong with them."""

    def run(settings: dict[str, Any], tags: dict[str, str] | None = None, **metrics: float) -> list[str]:
        settings["tags"] |= tags or {}
        settings["metrics"] |= metrics
        return [filler.run(**settings)]

    far = trained(44, test=0.80) | {"curves": {"train_accuracy": [0.99, 0.99]}}
    bad = trained(44, epochs=31) | {"curves": {}}
    return {
        "far": run(far, {"test_overlap_images": "3"}),
        "fewer": run(trained(34, images=100)),
        "bad": run(bad, train_accuracy=994.0, validation_accuracy=float("inf")),
        "flagged": run(trained(20, test=0.994), {"flagged": "test_accuracy 994 was read as 0.994"}),
        "moved": run(trained(56)) + run(trained(56, seed=1, digest="d2")),
        "leaking": run(trained(44, dataset="my photos", digest="d3"), {"test_overlap_images": "1"}),
        "seeds": [
            *run(trained(32, seed=7, num_threads=1), {"config_fingerprint": "same"}),
            *run(trained(32, seed=7, num_threads=2, test=0.96), {"config_fingerprint": "same"}),
        ],
        "words": run(
            trained(44, digest=None) | {"params": {"num_layers": "deep", "dataset": "digits"}},
            {"config_fingerprint": "words"},
        ),
        "part": run(trained(110), {"replay_problems": "2 of 90 events"}),
        "going": [filler.run("here", status="RUNNING", tags={"launcher": "local"})],
        "remote": [filler.run("there", status="RUNNING", tags={"launcher": "sagemaker-builtin"})],
        "stopped": [filler.run(**trained(34) | {"status": "KILLED"})],
        "at-once": [filler.run("stopped at once", status="KILLED", tags={"launcher": "local"}, seconds=5)],
        "failed": [
            filler.run(
                "job",
                status="FAILED",
                metrics={"cost_usd": 0.31},
                tags={
                    "status_reason": "ClientError: no rows",
                    "failure_kind": "data",
                    "advice": "look at the manifest",
                },
                seconds=125,
            )
        ],
    }


@pytest.mark.parametrize(("name", "fill"), [("leaderboard", demo), ("faults", faulty)])
def test_the_page_is_as_pinned(name: str, fill: Callable[[Filler], dict[str, list[str]]], tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    made = fill(filler)
    text = named(reports.leaderboard_text(filler.uri), made).replace(filler.uri, "sqlite:///mlflow.db")
    pinned = GOLDEN / f"reports_{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        pinned.write_text(text, encoding="utf-8")
    assert text == pinned.read_text(encoding="utf-8")


def test_the_same_store_gives_the_same_bytes_in_every_format(full: tuple[Filler, dict[str, list[str]]]) -> None:
    board = reports.leaderboard(full[0].uri)
    for format in ("md", "html", "csv", "json"):
        assert board.to_text(format) == reports.leaderboard(full[0].uri).to_text(format)


def test_the_page_is_commonmark_with_tables_and_lists_where_they_are_meant(
    full: tuple[Filler, dict[str, list[str]]],
) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(reports.leaderboard_text(full[0].uri))
    kinds = [t.type for t in tokens]
    assert kinds.count("table_open") == 5
    assert kinds.count("bullet_list_open") == 1 and kinds.count("fence") == 1
    assert "html_block" not in kinds and "code_block" not in kinds


def test_the_answer_of_several_seeds_averages_them_on_the_same_pictures(filler: Filler) -> None:
    for seed in range(2):
        for depth, score in ((44, 0.99), (34, 0.90)):
            predictions(filler, filler.run(**trained(depth, seed=seed, test=score)), score, seed=seed)
    said = answer(filler)
    assert said.startswith("44 layers leads on digits with 99.0 % test accuracy")
    assert "mean of 2 seeds, 360 pictures" in said
    assert "9.0 points ahead of 34 layers (90.0 %)" in said
    [note] = notes(filler)
    assert note.startswith("First minus second: +") and "points over seeds and pictures, p < 0.001." in note


def test_the_answer_of_single_runs_is_mcnemars(filler: Filler) -> None:
    for depth, score in ((44, 0.95), (34, 0.944)):
        predictions(filler, filler.run(**trained(depth, test=score)), score, seed=depth)
    said = answer(filler)
    assert "neither is shown to be better; one seed cannot tell a better setting from luck." in said
    assert said.endswith("It took 1 min 00 s; no cost was recorded.")


def test_what_holds_for_these_networks_need_not_hold_for_their_recipes(filler: Filler) -> None:
    for seed, scores in enumerate(((0.995, 0.90), (0.91, 0.85))):
        for depth, score in zip((44, 34), scores, strict=True):
            predictions(filler, filler.run(**trained(depth, seed=seed, test=score)), score, seed=seed)
    said = answer(filler)
    assert said.startswith("44 layers is level with 34 layers on digits: 95.2 %")
    assert (
        "which chance could explain" in said
        and "So few seeds cannot be relied on to show a lead of any size" in notes(filler)[0]
    )


def test_seeds_alone_are_judged_where_there_are_no_predictions(filler: Filler) -> None:
    for seed in range(3):
        filler.run(**trained(44, seed=seed, test=0.95 + seed / 1000))
        filler.run(**trained(34, seed=seed, test=0.90 + seed / 1000))
    assert "leads on digits with 95.1 %" in answer(filler) and "points over seeds, p < 0.001." in notes(filler)[0]
    found = json.loads(board_text(filler, format="json"))["pages"][0]
    assert found["sole_winner"] is True and found["p_value"] < 0.001


def test_without_predictions_the_answer_does_not_claim(filler: Filler) -> None:
    filler.run(**trained(44, test=0.99))
    filler.run(**trained(34, test=0.80))
    said = answer(filler)
    assert "Of these two networks the first is better; one seed cannot tell a better setting from luck." in said
    assert "over pictures, no mistake taken as shared, p < 0.001." in notes(filler)[0]


def test_the_answer_of_one_of_none_and_of_equals(filler: Filler) -> None:
    filler.run(**trained(44, test=None))
    assert answer(filler).startswith("No configuration on digits has a test accuracy yet: nothing is ranked. In the")
    filler.run(**trained(34, test=0.95))
    assert answer(filler).startswith("34 layers is the only one of 2 with a test accuracy on digits")
    filler.run(**trained(20, test=0.95))
    assert "20 layers and 34 layers have the same score" in answer(filler)
    board = reports.leaderboard(filler.uri)
    assert board["rank"].tolist()[:2] == [1, 1] and board["layers"].tolist()[:2] == [20, 34]


def test_nothing_finished_is_said(filler: Filler) -> None:
    filler.run(status="FAILED")
    assert answer(filler) == "No run has finished yet: nothing is ranked."


def test_cost_leads_the_pareto_picture_and_the_answer(filler: Filler) -> None:
    for depth, score, cost in ((20, 0.90, 0.10), (44, 0.95, 0.20), (56, 0.94, 0.90)):
        settings = trained(depth, test=score)
        settings["metrics"] |= {"cost_usd": cost, "billable_time_s": 300.0}
        filler.run(**settings)
    assert answer(filler).endswith("It took 1 min 00 s and cost 0.20 USD.")
    board = reports.leaderboard(filler.uri).board
    [figure] = evidence.pareto(board.pages[0], board, "cost")
    assert "On the front: 20 layers (90.0 % for 0.10 USD), 44 layers" in figure.alt
    assert "56 layers" not in figure.alt.partition("On the front")[2]
    assert "billable time" in reports.leaderboard_text(filler.uri)


def test_the_front_by_hand() -> None:
    cost, score = np.array([1.0, 2.0, 2.0, 3.0, 1.0]), np.array([0.5, 0.7, 0.7, 0.6, 0.4])
    assert evidence.on_front(cost, score) == [True, True, True, False, False]


def test_depth_and_start_are_separated_where_possible(filler: Filler) -> None:
    filler.run(**trained(44, "scratch", test=0.95))
    filler.run(**trained(34, "imagenet", test=0.97))
    board = reports.leaderboard(filler.uri).board
    found = answers.depth_by_start(board.pages[0], board.ask)
    assert found is not None and "the effects of depth and start cannot be separated" in plain(found[1].text)
    filler.run(**trained(34, "scratch", test=0.94))
    board = reports.leaderboard(filler.uri).board
    found = answers.depth_by_start(board.pages[0], board.ask)
    assert found is not None
    assert [c.title for c in found[0].columns] == ["layers", "scratch", "transfer: imagenet"]
    said = plain(found[1].text)
    assert "At 34 layers transfer adds 3.0 points" in said
    assert "From scratch, 44 layers instead of 34 add 1.0 point" in said


def test_each_missing_score_has_its_reason_and_its_command(filler: Filler) -> None:
    left_out = filler.run(**trained(44, test=None))
    nowhere = filler.run(**trained(34, test=None, digest=None))
    wrong = filler.run(**trained(20, test=994.0))
    notes = filler.run(
        params={"num_layers": 34, "epochs": 50, "use_pretrained_model": 1},
        tags={"launcher": "import"},
        metrics={"x": 1},
    )
    job = filler.run(params={"num_layers": 34}, tags={"launcher": "sagemaker-builtin"}, metrics={"x": 1})
    filler.run("source", params={"num_layers": 34}, tags={"pretext": "rotation"})
    board = reports.leaderboard(filler.uri).board
    gaps = {g.run_id: g for one in board.pages for g in missing.gaps(one).found}
    assert gaps[left_out].why == "testing was skipped (--no-test)"
    assert gaps[left_out].command == f"python -m trainers.evaluate {left_out}"
    assert gaps[nowhere].why == "no test score was logged"
    assert gaps[wrong].why == "the logged value 994 is not an accuracy"
    assert gaps[notes].why.startswith("imported without a test score and without a model")
    assert gaps[notes].command == ("python -m trainers.run --epochs 50 --num-layers 34 --init imagenet --dataset PATH")
    assert gaps[job].why == "the built-in algorithm takes no test pictures"
    assert gaps[job].command == f"python -m trainers.evaluate {job} --dataset PATH"
    assert len(gaps) == 5
    text = board_text(filler)
    for gap in gaps.values():
        assert gap.command in text


def test_old_notes_are_in_validations_order_and_one_command_trains_all_of_them_again(filler: Filler) -> None:
    """The four results that somebody kept in a notes file: no test accuracy, no model."""
    for layers, epochs, validation in ((44, 30, 0.982), (44, 50, 0.987), (34, 50, 0.988), (34, 100, 0.983)):
        filler.run(
            params={"num_layers": layers, "epochs": epochs, "init": "imagenet" if layers == 34 else "scratch"},
            tags={"launcher": "import"},
            metrics={"validation_accuracy": validation},
        )
    board = reports.leaderboard(filler.uri)
    assert board["validation"].tolist() == [0.988, 0.987, 0.983, 0.982]
    assert answer(filler).startswith("No configuration has a test accuracy yet: nothing is ranked. In the order of")
    assert answer(filler).endswith("34 layers, imagenet, 50 epochs is first (98.8 %).")
    text = board_text(filler)
    assert "### What it took" not in text, "nothing but that they were imported"
    lines = text.partition("cat > again.toml <<'END'\n")[2].partition("\nEND\n")
    toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    study = toml.loads(lines[0])
    assert study["settings"] == {"dataset": "PATH"} and {r["epochs"] for r in study["runs"]} == {30, 50, 100}
    assert len(study["runs"]) == 4 and {(r["num_layers"], r["init"]) for r in study["runs"]} == {
        (44, "scratch"),
        (34, "imagenet"),
    }
    assert lines[2].startswith("python -m trainers.run --study again.toml\n")
    assert "python -m trainers.run --epochs" not in text


def test_other_peoples_networks_get_no_command_that_cannot_score_them(filler: Filler) -> None:
    for number, network in enumerate(("MobileNetV2", "VGG")):
        settings = dict.fromkeys(
            ("learning_rate", "momentum", "beta_1", "beta_2", "eps", "gamma", "weight_decay"), number
        )
        filler.run(params={**settings, "network": network}, metrics={"model_size_bytes": 1e6})
    text = board_text(filler)
    assert "trainers.evaluate" not in text and "another tool" not in text
    assert "2 runs of your own code have no test_accuracy; where it is computed, log it: `run.log_metrics(" in text
    assert "| MobileNetV2, beta 1 0, " in text  # the network comes before its settings


def test_runs_logged_with_this_package_are_no_other_tool_s(workdir: Path) -> None:
    store = make_store(workdir)
    for rate in (0.1, 0.2):
        with tracking.start_run(f"rate {rate}", params={"learning_rate": rate}, system_metrics=False) as run:
            run.log_metrics({"validation_accuracy": rate}, step=1)
            run.log_metrics({"model_size_bytes": 1000})
    text = reports.leaderboard_text(store)
    assert "another tool" not in text and "trainers.evaluate" not in text
    assert "2 runs of your own code have no test_accuracy; where it is computed, log it: `run.log_metrics(" in text
    assert "to rank by one: `python -m reports leaderboard --metric validation_accuracy`" in text
    card = reports.run_card(run.run_id, store).to_text()
    assert "another tool" not in card and "No test accuracy. Where the run is logged, add it: `run.log_metrics(" in card
    with tracking.attach_run(run.run_id) as more:
        more.log_metrics({"test_accuracy": 0.2})
    assert "1 run of your own code has no test_accuracy" in reports.leaderboard_text(store)


def board_text(filler: Filler, **asked: Any) -> str:
    return reports.leaderboard_text(filler.uri, **asked)


def test_what_another_tool_logged_gets_no_column_and_no_command_that_cannot_help(filler: Filler) -> None:
    for rate in (0.1, 0.2):
        filler.run("a|b", params={"lr": rate}, metrics={"accuracy": 0.9 - rate, "loss": 1}, seconds=0)
    text = board_text(filler)
    head = next(line for line in text.splitlines() if line.startswith("|"))
    assert [c.strip() for c in head.split("|")[1:-1]] == ["#", "configuration", "test", "run"]
    assert "trainers.evaluate" not in text
    assert "2 runs were logged by another tool, without a metric test_accuracy." in text
    assert "Other metrics: `accuracy` and `loss`; to rank by one: `python -m reports leaderboard --metric acc" in text
    ranked = board_text(filler, metric="accuracy")
    head = next(line for line in ranked.splitlines() if line.startswith("|"))
    assert [c.strip() for c in head.split("|")[1:-1]] == ["#", "configuration", "accuracy", "run"]
    assert "| 80.0 % |" in " ".join(ranked.replace("\u00a0", " ").split())
    assert "10.0 points ahead of lr 0.2 (70.0 %)" in answer(filler, metric="accuracy")


def test_a_grouping_that_mixes_says_what_it_mixes(filler: Filler) -> None:
    filler.run(**trained(44, learning_rate=0.1))
    filler.run(**trained(44, learning_rate=0.2))
    board = reports.leaderboard(filler.uri, by="num_layers")
    assert board["n"].tolist() == [2]
    found = findings(filler, by="num_layers")
    assert "grouped by num_layers, rows mix runs that differ in learning_rate as well." in found


def test_a_clean_store_has_nothing_wrong(filler: Filler) -> None:
    for depth in (34, 44):
        for seed in range(2):
            filler.run(**trained(depth, seed=seed), inputs={"test": "d1"})
    assert findings(filler) == []
    assert checks.GAP == 0.10


def test_epoch_chosen_by_best_or_step_and_never_quietly_by_test(filler: Filler) -> None:
    settings = trained(44, test=0.9)
    settings["curves"] = {"train_accuracy": [0.7, 0.8, 0.9], "validation_accuracy": [0.6, 0.85, 0.8]}
    filler.run(**settings)
    assert reports.leaderboard(filler.uri)[["train_accuracy", "validation"]].values.tolist() == [[0.9, 0.8]]
    best = reports.leaderboard(filler.uri, best="validation_accuracy")
    assert best[["train_accuracy", "validation"]].values.tolist() == [[0.8, 0.85]]
    assert "those of the epoch with the best validation_accuracy" in best.to_text()
    first = reports.leaderboard(filler.uri, at_step=1)
    assert first[["train_accuracy", "validation", "test_accuracy"]].values.tolist() == [[0.7, 0.6, 0.9]]
    assert reports.leaderboard(filler.uri, at_step=9)["validation"].isna().all()
    assert "Warning" not in best.to_text()
    by_test = reports.leaderboard(filler.uri, best="test_accuracy")
    assert "**Warning:** The epoch was chosen by test_accuracy, so" in by_test.to_text()
    # It was logged once, at the end: there is no epoch to choose.
    assert by_test[["train_accuracy", "validation"]].values.tolist() == [[0.9, 0.8]]
    assert "so there is no epoch to choose: train and validation are the last" in by_test.to_text()
    assert first["gap"].isna().all() and best["gap"].notna().all()


def test_csv_is_a_line_a_configuration(filler: Filler) -> None:
    for seed in range(2):
        filler.run(**trained(44, seed=seed) | {"name": f"two\nlines, {seed}"})
    rows = list(csv.DictReader(board_text(filler, format="csv").splitlines()))
    assert [r["run_names"] for r in rows] == ["two lines, 0; two lines, 1"] and rows[0]["seeds"] == "0; 1"


def test_points_close_together_are_all_named() -> None:
    near = [
        figures.Point(label=f"network {i}", cost=45 + i / 4, score=0.90 + i / 100, low=0.85, high=0.99, front=i == 2)
        for i in range(3)
    ]
    drawn = figures.cost_against_score("cost", near, "time a run", "s", "test accuracy")
    assert all(drawn.svg.count(f">network {i}<") == 1 for i in range(3)) and "faster" in drawn.caption
    # A number in the point and in the legend, the best first.
    assert [drawn.svg.count(f">{number}</text>") >= 2 for number in (1, 2, 3)] == [True] * 3
    assert drawn.svg.index(">network 2<") < drawn.svg.index(">network 1<") < drawn.svg.index(">network 0<")


def test_columns_by_metric_and_top(filler: Filler) -> None:
    for depth in (20, 32, 44):
        filler.run(**trained(depth, test=0.9 + depth / 1000, optimizer="nag"), inputs={"validation": "v"})
    text = board_text(filler, columns="optimizer,test_num_images", top=2)
    assert text.startswith("# Leaderboard\n\n**44 layers** scored best")
    assert "| nag" in text and "… and 1 row more" in text and "20 layers" not in text.partition("### ")[0]
    ranked = reports.leaderboard(filler.uri, metric="validation_accuracy")
    assert ranked["layers"].tolist() == [44, 32, 20]
    by = reports.leaderboard(filler.uri, by=["num_layers", "init"])
    assert by.attrs["settings"] == ["layers", "init"]


def test_a_row_of_several_values_shows_them_all(filler: Filler) -> None:
    for rate in (0.2, 0.1, 0.1):
        filler.run(**trained(44, learning_rate=rate, seed=int(rate * 10)))
    filler.run(**trained(34, learning_rate=0.1))
    board = reports.leaderboard(filler.uri, by="num_layers", columns="learning_rate")
    assert dict(zip(board["layers"], board["learning_rate"], strict=True)) == {44: "0.1 / 0.2", 34: 0.1}


def test_lower_is_better_where_it_is(filler: Filler) -> None:
    for loss in (0.3, 0.1, 0.2):
        filler.run(params={"lr": loss}, metrics={"my_loss": loss})
    board = reports.leaderboard(filler.uri, metric="my_loss")
    assert board["my_loss"].tolist() == [0.1, 0.2, 0.3]
    assert "lr 0.1 leads with 0.1 my_loss (mean" not in board.to_text()
    assert "0.1 below lr 0.2" in answer(filler, metric="my_loss")


def test_a_plain_metric_has_its_spread_beside_it(filler: Filler) -> None:
    for seed, value in enumerate((0.5, 0.7)):
        filler.run(params={"lr": 1, "seed": seed}, metrics={"psnr": value})
    text = board_text(filler, metric="psnr").replace("\u00a0", " ")
    assert "| 0.6000 ± 0.1414 |" in text and "± is one standard deviation over seeds" in text


def test_settings_that_vary_are_shown_unless_the_data_decides_them(filler: Filler) -> None:
    filler.run(**trained(44, learning_rate=0.1, image_shape="1,28,28"))
    filler.run(**trained(44, learning_rate=0.2, image_shape="1,28,28"))
    filler.run(**trained(34, learning_rate=0.1, image_shape="1,32,32"))
    board = reports.leaderboard(filler.uri)
    assert board.attrs["settings"] == ["layers", "init", "epochs", "learning_rate"]
    assert "44 layers, learning rate 0.2" in board["label"].tolist()


def test_runs_link_to_a_server_and_never_show_a_password(filler: Filler) -> None:
    from reports.board.columns import run_text
    from reports.document.document import Link, RunId

    assert run_text("ab" * 16, "3", "http://host:5000/") == Link(
        "abababab", f"http://host:5000/#/experiments/3/runs/{'ab' * 16}"
    )
    assert run_text("ab" * 16, "3", "https://user:***@host") == RunId("abababab", "ab" * 16)


def test_figures_say_what_they_show(full: tuple[Filler, dict[str, list[str]]]) -> None:
    found = [b for b in page.document(reports.leaderboard(full[0].uri).board).blocks if isinstance(b, Figure)]
    assert [f.name for f in found] == ["curves", "cost", "confusion-1", "confusion-2"]
    assert all(len(f.alt) > 60 and f.svg.startswith("<svg") and f.svg.endswith("</svg>") for f in found)
    assert "of 1080 right" in found[2].alt


def test_markdown_on_disk_has_its_figures_beside_it(full: tuple[Filler, dict[str, list[str]]], tmp_path: Path) -> None:
    reports.leaderboard(full[0].uri).save(tmp_path / "out" / "board.md")
    text = (tmp_path / "out" / "board.md").read_text(encoding="utf-8")
    names = sorted(p.name for p in (tmp_path / "out" / "board-figures").iterdir())
    assert names == ["confusion-1.svg", "confusion-2.svg", "cost.svg", "curves.svg"]
    assert all(f"](board-figures/{name})" in text for name in names)


def test_a_frame_that_shows_itself_in_a_notebook(full: tuple[Filler, dict[str, list[str]]]) -> None:
    board = reports.leaderboard(full[0].uri)
    html = board._repr_html_()
    assert "<table>" in html and "<svg" in html and "<script" not in html and 'class="answer"' in html
    assert type(board.head(2)).__name__ == "DataFrame"
    assert board.board.pages[0].digest == "d1"


def test_a_table_is_as_long_as_its_columns(full: tuple[Filler, dict[str, list[str]]]) -> None:
    for block in page.document(reports.leaderboard(full[0].uri).board).blocks:
        if isinstance(block, Table):
            assert {len(c.cells) for c in block.columns} == {block.num_rows}


def test_an_accuracy_of_labels_is_marked_as_one(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    several = trained(20)
    several["params"] |= {"multi_label": "1"}
    run_id = filler.run(**several)
    filler.run(**trained(32))
    assert f"- `{run_id[:8]}`: Several labels a picture: accuracies count labels" in reports.leaderboard_text(
        filler.uri
    )
