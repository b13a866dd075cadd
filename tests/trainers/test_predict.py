"""``trainers.predict``: what answers, what is answered, and that one bad picture keeps no other out."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.aws.account import World
from tests.support.aws.account import account_fixture as account_fixture
from tests.support.aws.account import shared_fixture as shared_fixture
from tests.support.models import CLASS_NAMES, crops, photographs, saved_model
from tests.support.pictures import encoded, image_payloads, protobuf_payload, write_rec
from tests.support.stores import make_store
from tracking import run as tracked
from tracking import store as stores
from tracking.__main__ import main as tracking_main
from tracking.models.serving.model import PictureModel
from trainers import predict

pytestmark = pytest.mark.mxnet
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model() -> Path:
    """A saved model that takes colour pictures of 28 px."""
    return saved_model(20, "v1", (3, 28, 28))


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(photographs()[1])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def answers(path: Path) -> dict[str, str]:
    """The last part of each path and its problem, "" where it was answered."""
    return {row["path"].rpartition("/")[2]: row["problem"] for row in rows(path)}


def jpeg(photo: Image.Image, **how: Any) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=95, **how)
    return file.getvalue()


def test_answers_are_the_models_own_best_first_and_add_up(workdir: Path, model: Path, capsys: Captured) -> None:
    for number, pixels in enumerate(crops(5, (3, 28, 28), seed=4)):
        Image.fromarray(pixels).save(workdir / f"{number}.png")
    paths = [f"{number}.png" for number in (3, 0, 4, 1, 2, 0)]
    assert predict.main([str(model), *paths, "--top", "9", "--out", "answers.csv"]) == 0
    assert "6 pictures answered: answers.csv" in capsys.readouterr().err
    table = PictureModel(model).predict([str(path) for path in paths])
    found = rows(workdir / "answers.csv")
    assert [row["path"] for row in found] == paths
    for row, said in zip(found, table.to_dict("records"), strict=True):
        given = {row[f"class{end}"]: float(row[f"probability{end}"]) for end in ("", "_2", "_3", "_4")}
        assert given == pytest.approx(said["probabilities"], abs=1e-6) and sum(given.values()) == pytest.approx(
            1, abs=1e-5
        )
        assert list(given.values()) == sorted(given.values(), reverse=True) and row["problem"] == ""
    assert predict.main([str(model), "3.png", "--top", "1"]) == 0
    assert re.fullmatch(rf"3\.png  {found[0]['class']} \d+\.\d %\n", capsys.readouterr().out)


def test_every_kind_of_picture_is_answered_or_named_for_what_it_is(
    workdir: Path, model: Path, photo: Image.Image, capsys: Captured
) -> None:
    """What people's folders hold; each picture shows the same flower, so each answer must be much the same."""
    folder = workdir / "my photos"
    (folder / "sub dir").mkdir(parents=True)
    data = jpeg(photo)
    exif = Image.Exif()
    exif[274] = 6
    (folder / "turned.jpg").write_bytes(jpeg(photo.rotate(90, expand=True), exif=exif))
    for name in (
        "IMG_0001.JPG",
        "no ending",
        "sub dir/naïve ø 日本.jpg",
        "two\nlines.jpg",
        "photo.jfif",
        ".hidden.jpg",
    ):
        (folder / name).write_bytes(data)
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xe9.jpg")).write_bytes(data)
    for name in ("UPPER.PNG", "a.webp", "a.tiff", "a.bmp", "moving.gif"):
        photo.save(folder / name)
    transparent = photo.copy()
    transparent.putalpha(128)
    transparent.save(folder / "alpha.png")
    photo.convert("P").save(folder / "palette.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "16bit.png")
    answered = 15
    bad = {
        "moving.gif": "GIF, which is not read here; save it as JPEG or PNG",
        "IMG_2.HEIC": "HEIC, which is not read here; save it as JPEG or PNG",
        "half.jpg": "truncated",
        "empty.jpg": "an empty file, not a picture",
        "text.jpg": "text, not a picture",
        "gone.png": "a web page (HTML), not a picture",
        "huge.png": "10000 x 9000 px is more than this project decodes",
        "pipe.jpg": "not a regular file",
        "pointer.jpg": "git lfs pull",
    }
    (folder / "IMG_2.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (folder / "half.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "gone.png").write_text("<!DOCTYPE html><title>404</title>")
    (folder / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    Image.new("1", (10000, 9000)).save(folder / "huge.png")
    os.mkfifo(folder / "pipe.jpg")
    for name in ("notes.txt", "clip.mov", "._IMG_0001.JPG", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert predict.main([str(model), "my photos", "missing*.jpg", "--out", "answers.csv"]) == 1
    found, said = answers(workdir / "answers.csv"), capsys.readouterr().err
    for name, reason in {**bad, "missing*.jpg": "there is no such file or folder"}.items():
        assert reason in found.pop(name)
    assert set(found.values()) == {""} and len(found) == answered and "latin\\udce9.jpg" in found
    shares = np.array([float(row["probability"]) for row in rows(workdir / "answers.csv") if not row["problem"]])
    assert np.ptp(shares) < 0.02, "turned, transparent, grey or in another format: the same flower"
    assert "15 pictures answered, 10 not: answers.csv" in said and "two\\nlines" not in said
    assert "note: 2 other files were left out: my photos/clip.mov, my photos/notes.txt" in said


def test_what_a_turned_photograph_shows_counts_not_how_it_is_stored(
    workdir: Path, model: Path, photo: Image.Image
) -> None:
    exif = Image.Exif()
    exif[274] = 8
    stored = photo.rotate(-90, expand=True)
    for name, how in (("turned.jpg", {"exif": exif}), ("stored.jpg", {})):
        (workdir / name).write_bytes(jpeg(stored, **how))
    (workdir / "upright.jpg").write_bytes(jpeg(photo))
    names = ["upright.jpg", "turned.jpg", "stored.jpg"]
    assert predict.main([str(model), *names, "--out", "answers.csv"]) == 0
    upright, turned, stored_so = (float(row["probability"]) for row in rows(workdir / "answers.csv"))
    assert abs(upright - turned) < 0.01 < abs(upright - stored_so)


def test_lists_and_records_are_answered_line_by_line(workdir: Path, model: Path, capsys: Captured) -> None:
    (workdir / "in").mkdir()
    for number in range(3):
        (workdir / "in" / f"{number}.png").write_bytes(encoded(number, size=(40, 40)))
    lines = ["0\t1\t2.png", "no line", "2\t0\t../x.png", "3\t0\tnone.png", "4\t1\t0.png"]
    (workdir / "some.lst").write_text("\n".join(lines))
    payloads = image_payloads(3)
    rec = write_rec(workdir / "some.rec", [*payloads, protobuf_payload(), payloads[0]])
    rec.write_bytes(rec.read_bytes() + b"torn")
    both = ["some.lst", "some.rec", "--image-root", "in"]
    assert predict.main([str(model), *both, "--out", "answers.csv"]) == 1
    found, said = rows(workdir / "answers.csv"), capsys.readouterr().err
    assert [row["path"] for row in found] == [
        *("in/2.png", "some.lst:2", "some.lst:3", "in/none.png", "in/0.png"),
        *(f"some.rec[{number}]" for number in range(5)),
        "some.rec[5…]",
    ]
    assert [bool(row["problem"]) for row in found] == [False, True, True, True, False, *[False] * 3, True, False, True]
    assert "climbs with .." in found[2]["problem"] and "separated by tabs" in found[1]["problem"]
    assert "after the last record" in found[-1]["problem"]
    first, last = found[5], found[9]
    assert {**first, "path": ""} == {**last, "path": ""}
    hint = "python -m trainers.evaluate RUN --dataset"
    assert f"{hint} some.lst --image-root in" in said and f"{hint} some.rec" in said


def test_a_folder_for_each_class_is_no_evaluation_but_names_it(workdir: Path, model: Path, capsys: Captured) -> None:
    for name in CLASS_NAMES[:2]:
        (workdir / "my data" / name).mkdir(parents=True)
        (workdir / "my data" / name / "1.png").write_bytes(encoded(1, size=(40, 40)))
    assert predict.main([str(model), "my data"]) == 0
    said = capsys.readouterr()
    assert "python -m trainers.evaluate RUN --dataset 'my data'" in said.err and "no score" in said.err
    assert "accuracy" not in said.out + said.err
    assert predict.main([str(model), "my data/cat"]) == 0
    assert "trainers.evaluate" not in capsys.readouterr().err


def test_s3_prefixes_are_read_from_s3(account: World, workdir: Path, model: Path, capsys: Captured) -> None:
    keys = ("b/1.JPG", "b/sub/2.png", "b/readme.txt", "b/x.heic", "b/.cache/3.png", "b/broken.png", "c.png")
    for key in keys:
        data = encoded(1, "." + key[-3:].lower(), (40, 40)) if key[-3:].lower() in ("jpg", "png") else b"text"
        account.put(f"{account.folder}/{key}", b"\x89PNG\r\n" if "broken" in key else data)
    place = f"s3://bucket-one/{account.folder}"
    more = ["--region", "us-east-1", "--out", "answers.csv"]
    assert predict.main([str(model), f"{place}/b/", f"{place}/c.png", *more]) == 1
    found, said = rows(workdir / "answers.csv"), capsys.readouterr().err
    assert [row["path"].removeprefix(place) for row in found] == [
        *("/b/1.JPG", "/b/broken.png", "/b/sub/2.png", "/b/x.heic", "/c.png")
    ]
    assert [bool(row["problem"]) for row in found] == [False, True, False, True, False]
    assert "note: 2 other files were left out" in said
    assert predict.main([str(model), "s3://no-such-bucket/a", f"{place}/none", f"{place}/c.png", *more]) == 1
    assert [bool(row["problem"]) for row in rows(workdir / "answers.csv")] == [True, True, False]


@pytest.fixture(scope="module")
def tracked_model(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[tuple[Path, str]]:
    """A directory whose store has a run with that model, and its id."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_store(folder)
        store = stores.resolve(folder)
        for name in ("the owls", "twice", "twice"):
            with tracked.start(run_name=name, live=store, system_metrics=False) as run:
                if name == "the owls":
                    run.log_metrics({"validation_accuracy": 0.5}, step=7)
                    run.log_artifact(model)
                    run_id = run.mlflow_run_id
        (folder / "a.png").write_bytes(encoded(1, size=(40, 40)))
        (found,) = store.runs(None, "attributes.run_name = 'the owls'")
        run_id = found.info.run_id
        yield folder, run_id


def test_a_model_answers_by_each_of_its_names(
    tracked_model: tuple[Path, str], model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    folder, run_id = tracked_model
    monkeypatch.chdir(folder)
    store = stores.resolve(folder)
    model_id = store.find_run(run_id).outputs.model_outputs[0].model_id
    assert tracking_main(["promote", run_id, "--name", "owls", "--force"]) == 0
    journal = store.journal_dir(run_id)
    capsys.readouterr()
    said = []
    named = [str(model), run_id, run_id[:8], journal.name, "the owls", f"runs:/{run_id}/model", f"models:/{model_id}"]
    for name in [*named, "models:/owls@champion", "models:/owls/1"]:
        assert predict.main([name, "a.png"]) == 0
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 1 and said[0].startswith("a.png  ")
    kept = journal / "files" / "model"
    kept.rename(folder / "away")  # then MLflow's copy answers
    try:
        assert predict.main([run_id, "a.png"]) == 0 and capsys.readouterr().out == said[0]
    finally:
        (folder / "away").rename(kept)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing", "a.png"], "'nothing' is no model: neither a file or folder"),
        (["twice", "a.png"], "'twice' could be 2 "),
        (["models:/nobody@champion", "a.png"], "models:/nobody@champion cannot be loaded"),
        (["a.png", "a.png"], "a.png is no model: expected a folder with model.json"),
        (["the owls", "a.png", "--top", "0"], "--top 0 is out of range"),
        (["the owls", "a.png", "--out", "no/such/x.csv"], "--out no/such/x.csv cannot be written"),
        (["the owls", "a.png", "--classes", "c.json"], "--classes and --epoch are for a model.tar.gz"),
        (["the owls", "bare"], "no picture in bare. 1 other file was left out: bare/notes.txt"),
        (["the owls"], "PATH"),
    ],
)
def test_bad_input_is_one_line(
    tracked_model: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: Captured, argv: list[str], message: str
) -> None:
    monkeypatch.chdir(tracked_model[0])
    (tracked_model[0] / "bare").mkdir(exist_ok=True)
    (tracked_model[0] / "bare" / "notes.txt").touch()
    assert predict.main(argv) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_run_without_a_model_says_so(
    tracked_model: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tracked_model[0])
    run_id = next(stores.resolve().runs(None, "attributes.run_name = 'twice'")).info.run_id
    assert predict.main([run_id, "a.png"]) == 2
    assert f"run {run_id} has no model" in capsys.readouterr().err


def test_the_archive_of_a_job_answers_too(workdir: Path, model: Path, capsys: Captured) -> None:
    with tarfile.open(workdir / "model.tar.gz", "w:gz") as tar:
        tar.add(model / "model-symbol.json", "image-classification-symbol.json")
        for epoch in (3, 4):
            tar.add(model / "model-0000.params", f"image-classification-{epoch:04}.params")
        shapes = json.dumps([{"name": "data", "shape": [32, 3, 28, 28]}]).encode()
        info = tarfile.TarInfo("model-shapes.json")
        info.size = len(shapes)
        tar.addfile(info, io.BytesIO(shapes))
    (workdir / "classes.json").write_text(json.dumps({"class_names": CLASS_NAMES}))
    (workdir / "a.png").write_bytes(encoded(1, size=(28, 28)))
    assert predict.main(["model.tar.gz", "a.png"]) == 2
    assert "the epochs 3, 4; say which" in capsys.readouterr().err
    assert predict.main(["model.tar.gz", "a.png", "--epoch", "3", "--classes", "classes.json"]) == 0
    said = capsys.readouterr().out
    assert predict.main([str(model), "a.png"]) == 0 and said == capsys.readouterr().out
    assert predict.main(["model.tar.gz", "a.png", "--epoch", "3", "--top", "1"]) == 0
    assert re.match(r"a\.png  [0-3] ", capsys.readouterr().out)
    make_store(workdir)
    with tracked.start(run_name="a job", live=stores.resolve(), system_metrics=False) as run:
        run.set_tags({"model_uri": str(workdir / "model.tar.gz")})
        run.log_metrics({"best_epoch": 4}, step=4)
    assert predict.main(["a job", "a.png", "--classes", "classes.json"]) == 0, "the run knows its best epoch"
    assert capsys.readouterr().out == said


def test_the_gallery_is_one_page_with_the_least_sure_first(
    workdir: Path, model: Path, photo: Image.Image, capsys: Captured
) -> None:
    for number, pixels in enumerate(crops(30, (3, 28, 28), seed=2)):
        Image.fromarray(pixels).save(workdir / f"{number:02}.png")
    (workdir / "<b>.jpg").write_bytes(jpeg(photo))
    (workdir / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert predict.main([str(model), ".", "--out", "a.csv", "--gallery", "page.html"]) == 1
    page = (workdir / "page.html").read_text(encoding="utf-8")
    shown = [html.unescape(title) for title in re.findall(r"<title>([^<]*: [^<]*%)</title>", page)]
    answered = [row for row in rows(workdir / "a.csv") if not row["problem"]]
    answered.sort(key=lambda row: float(row["probability"]))
    assert [title.partition(": ")[0] for title in shown] == [row["path"] for row in answered] and len(shown) == 31
    assert page.count("data:image/") == 31 and "Not answered" in page and "broken.jpg" in page
    assert "<b>" not in page and not re.findall(r'(?:src|href)="(?!data:)', page)


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_many_are_done_and_keeps_the_problems(
    workdir: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "a.png").write_bytes(encoded(1, size=(40, 40)))
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert predict.main([str(model), *["a.png"] * 70, "none.png", "--out", "a.csv"]) == 1
    assert isinstance(sys.stderr, Terminal)
    said = sys.stderr.getvalue()
    assert re.search(r"\b\d+ pictures\b.*none\.png: not answered", said, re.DOTALL)
    assert said.endswith("70 pictures answered, 1 not: a.csv\n")


def test_ctrl_c_keeps_the_answers_until_then(
    workdir: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (workdir / "a.png").write_bytes(encoded(1, size=(40, 40)))
    asked = iter(range(200))
    ask = PictureModel.probabilities

    def interrupted(self: PictureModel, pictures: Any) -> Any:
        if next(asked) == 2:
            raise KeyboardInterrupt
        return ask(self, pictures)

    monkeypatch.setattr(PictureModel, "probabilities", interrupted)
    assert predict.main([str(model), *["a.png"] * 200, "--out", "a.csv"]) == 130
    assert len(rows(workdir / "a.csv")) == 128
    assert "interrupted after the first 128 pictures" in capsys.readouterr().err
    assert [path.name for path in workdir.glob("*.part")] == []


def test_no_mxnet_is_needed_and_memory_stays_bounded(workdir: Path, model: Path) -> None:
    (workdir / "photo.jpg").write_bytes(jpeg(Image.fromarray(photographs()[0]).resize((3000, 2000))))
    code = (
        "import sys; sys.modules['mxnet'] = sys.modules['gluoncv'] = sys.modules['cv2'] = None\n"
        "from trainers import predict\n"
        "for times in (1, 20):\n"
        "    assert predict.main(sys.argv[1:2] + ['photo.jpg'] * times + ['--out', 'a.csv']) == 0\n"
        "    print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(workdir / "a.csv")) == 20
    # How much of the libraries is mapped counts as well, and differs by 40 MB between two installations of the same.
    one, twenty = map(int, done.stdout.split())
    assert twenty - one < 110_000, "kB more at most: 20 pictures of 18 MB are never held at once"


def test_a_full_disk_is_said_and_leaves_no_half_file(workdir: Path, model: Path) -> None:
    (workdir / "a.png").write_bytes(encoded(1, size=(40, 40)))
    code = (
        "import resource, signal, sys\n"
        "from trainers import predict\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "sys.exit(predict.main(sys.argv[1:2] + ['a.png'] * 200 + ['--out', 'a.csv']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, "No room left to write a.csv." in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr and [path.name for path in workdir.iterdir()] == ["a.png"]
