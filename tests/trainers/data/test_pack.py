"""pack: round trips, one class map, whole or nothing, bad pictures named, and the command line around it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.pictures import class_folders, encoded, image_payloads, listed_folder, picture, with_flag, write_rec
from trainers.data import find_overlap, open_dataset
from trainers.data.__main__ import main
from trainers.data.formats.image_record import unpack_image
from trainers.data.formats.recordio import RecordFile
from trainers.data.pack.pack import Options, pack
from trainers.data.pack.writers import safe
from trainers.errors import BadData

ALL_IN_TRAIN = {"train": 1.0}


def contents(folder: Path, classes: tuple[str, ...] = ("cat", "dog")) -> dict[str, list[bytes]]:
    """Bytes of the pictures of each class, sorted."""
    return {name: sorted(path.read_bytes() for path in folder.rglob(f"{name}/*") if path.is_file()) for name in classes}


def records(path: Path) -> list[tuple[int, float, int, bytes]]:
    """(flag, label, id, bytes) of every record."""
    file = RecordFile(path)
    frames = file.scan()
    assert frames.fault is None
    found = [unpack_image(file.payload(frames, index)) for index in range(len(frames))]
    return [(record.flag, record.labels[0], record.id, record.image) for record in found if record is not None]


def test_folder_to_records_and_back_gives_the_same_bytes_and_labels(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source", suffix=".jpg")
    pack(str(source), tmp_path / "rec", Options())
    pack(str(tmp_path / "rec"), tmp_path / "lst", Options(form="lst"))
    assert contents(tmp_path / "lst") == contents(source)
    for split in ("train", "validation", "test"):
        there = open_dataset(tmp_path / "rec").splits[split]
        back = open_dataset(tmp_path / "lst").splits[split]
        assert there.digest == back.digest
    assert open_dataset(tmp_path / "lst").class_names == ("cat", "dog")


def test_records_are_laid_out_one_prefix_a_channel(tmp_path: Path) -> None:
    pack(str(class_folders(tmp_path / "source")), tmp_path / "out", Options())
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    index = [f"index/{split}.{end}" for split in ("test", "train", "validation") for end in ("idx", "lst")]
    channels = ["test/test.rec", "train/train.rec", "validation/validation.rec"]
    assert files == sorted(["classes.json", "pack.json", *index, *channels])
    assert json.loads((tmp_path / "out" / "classes.json").read_text())["class_names"] == ["cat", "dog"]


def test_records_are_what_the_built_in_reads(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source")
    pack(str(source), tmp_path / "out", Options(shares=ALL_IN_TRAIN))
    found = records(tmp_path / "out" / "train" / "train.rec")
    assert [number for _, _, number, _ in found] == list(range(20))
    assert {flag for flag, *_ in found} == {0}
    lines = (tmp_path / "out" / "index" / "train.lst").read_text().splitlines()
    for line, (_, label, number, data) in zip(lines, found, strict=True):
        index, listed, name = line.split("\t")
        assert (int(index), float(listed)) == (number, label)
        assert data == (source / name).read_bytes()
    offsets = [line.split("\t") for line in (tmp_path / "out" / "index" / "train.idx").read_text().splitlines()]
    assert [int(key) for key, _ in offsets] == list(range(20))
    frames = RecordFile(tmp_path / "out" / "train" / "train.rec").scan()
    assert [int(offset) for _, offset in offsets] == frames.offsets.tolist()


def test_order_is_mixed_and_the_seed_decides(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source", 20)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pack(str(source), tmp_path / name, Options(seed=seed, num_thread=1 if name == "a" else 3))
    files = {name: (tmp_path / name / "train" / "train.rec").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]
    labels = [label for _, label, _, _ in records(tmp_path / "a" / "train" / "train.rec")]
    assert 6 < sum(a != b for a, b in zip(labels, labels[1:], strict=False)) < 26


def test_split_is_stratified_and_never_parts_equal_pictures(tmp_path: Path) -> None:
    for name, start in (("cat", 0), ("dog", 100)):
        for index in range(40):
            picture(tmp_path / "source" / name / f"{index}.png", start + index // 2)
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    packed = pack(str(tmp_path / "source"), tmp_path / "out", Options(shares=shares))
    assert packed.pictures == {"train": [20, 20], "validation": [10, 10], "test": [10, 10]}
    assert find_overlap(open_dataset(tmp_path / "out")) == []


def test_own_splits_are_kept_and_a_missing_validation_is_cut(tmp_path: Path) -> None:
    class_folders(tmp_path / "s" / "train", 10)
    class_folders(tmp_path / "s" / "test", 3, start=100)
    assert pack(str(tmp_path / "s"), tmp_path / "a", Options()).pictures == {
        "train": [9, 9],
        "validation": [1, 1],
        "test": [3, 3],
    }
    share = Options(shares={"validation": 0.3})
    assert pack(str(tmp_path / "s"), tmp_path / "b", share).pictures["validation"] == [3, 3]
    with pytest.raises(BadData, match="may only give validation=SHARE"):
        pack(str(tmp_path / "s"), tmp_path / "c", Options(shares={"train": 0.5, "test": 0.5}))
    class_folders(tmp_path / "s" / "validation", 2, start=200)
    with pytest.raises(BadData, match="has splits of its own"):
        pack(str(tmp_path / "s"), tmp_path / "c", share)


@pytest.mark.parametrize("form", ["rec", "lst"])
def test_resize_makes_the_shortest_side(tmp_path: Path, form: str) -> None:
    source = class_folders(tmp_path / "source", 5, size=(40, 60), suffix=".jpg")
    options = Options(form=form, shares=ALL_IN_TRAIN, resize=20)
    assert pack(str(source), tmp_path / "out", options).reencoded == 10
    if form == "rec":
        files = [data for *_, data in records(tmp_path / "out" / "train" / "train.rec")]
    else:
        files = [path.read_bytes() for path in (tmp_path / "out" / "train").rglob("*.jpg")]
    assert {cv2.imdecode(np.frombuffer(data, np.uint8), -1).shape for data in files} == {(20, 30, 3)}
    expected = cv2.imdecode(np.frombuffer((source / "cat" / "003.jpg").read_bytes(), np.uint8), 1)
    expected = cv2.resize(expected, (30, 20), interpolation=cv2.INTER_LINEAR)
    assert cv2.imencode(".jpg", expected, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() in files


def test_quality_encodes_anew_upright_and_in_eight_bits(tmp_path: Path) -> None:
    from PIL import Image

    source = class_folders(tmp_path / "source", 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(source / "cat" / "turned.jpg", exif=exif)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(source / "cat" / "deep.png")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), "CMYK").save(source / "cat" / "ink.jpg")
    pack(str(source), tmp_path / "out", Options(form="lst", shares=ALL_IN_TRAIN, quality=80))
    shapes = {path.name: cv2.imread(str(path), -1).shape for path in (tmp_path / "out" / "train" / "cat").iterdir()}
    assert shapes["turned.jpg"] == (24, 16, 3)
    assert shapes["deep.jpg"] == (8, 8)
    assert shapes["ink.jpg"] == (8, 8, 3)
    assert set(shapes) == {"000.jpg", "001.jpg", "002.jpg", "turned.jpg", "deep.jpg", "ink.jpg"}


def test_other_formats_become_png_without_loss(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source", 3, suffix=".bmp")
    packed = pack(str(source), tmp_path / "out", Options(shares=ALL_IN_TRAIN))
    assert packed.reencoded == 6
    for _, label, _, data in records(tmp_path / "out" / "train" / "train.rec"):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), -1)
        assert data.startswith(b"\x89PNG")
        originals = [cv2.imread(str(path), -1) for path in (source / ("cat", "dog")[int(label)]).iterdir()]
        assert any((pixels == original).all() for original in originals)


def test_named_sets_pack_without_loss(tmp_path: Path) -> None:
    packed = pack("digits", tmp_path / "out", Options())
    assert packed.num_pictures == 1797
    original, back = open_dataset("digits"), open_dataset(tmp_path / "out")
    assert len(back.test) == sum(packed.pictures["test"])
    pixels = {original.train.pictures.load(at, 1).tobytes() for at in range(len(original.train))}
    pixels |= {original.validation.pictures.load(at, 1).tobytes() for at in range(len(original.validation))}
    pixels |= {original.test.pictures.load(at, 1).tobytes() for at in range(len(original.test))}
    assert all(back.train.pictures.load(at, 1).tobytes() in pixels for at in range(0, len(back.train), 50))


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("cut", [0, 5, 200])
def test_an_unreadable_picture_stops_the_pack_and_is_named(tmp_path: Path, split: bool, cut: int) -> None:
    source = class_folders(tmp_path / "source", suffix=".jpg")
    bad = source / "dog" / "004.jpg"
    bad.write_bytes(bad.read_bytes()[:cut])
    options = Options() if split else Options(shares=ALL_IN_TRAIN)
    with pytest.raises(BadData, match=r"dog/004\.jpg: .*Nothing was written.*--skip-bad"):
        pack(str(source), tmp_path / "out", options)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("split", [True, False])
def test_skip_bad_lists_and_counts(tmp_path: Path, split: bool) -> None:
    source = class_folders(tmp_path / "source", suffix=".jpg")
    for number, cut in ((3, 0), (4, 5), (5, 250)):
        bad = source / "dog" / f"00{number}.jpg"
        bad.write_bytes(bad.read_bytes()[:cut])
    options = Options(skip_bad=True, shares=None if split else ALL_IN_TRAIN)
    packed = pack(str(source), tmp_path / "out", options)
    assert sorted(Path(name).name for name in packed.skipped) == ["003.jpg", "004.jpg", "005.jpg"]
    assert packed.num_pictures == 17
    assert sum(sum(counts) for counts in packed.pictures.values()) == 17
    report = json.loads((tmp_path / "out" / "pack.json").read_text())
    assert len(report["skipped"]) == 3
    assert sum(len(part) for part in open_dataset(tmp_path / "out").splits.values()) == 17 if split else True


def test_skip_bad_saves_the_whole_records_of_a_damaged_file(tmp_path: Path) -> None:
    path = write_rec(tmp_path / "x.rec", image_payloads(40))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadData, match="--skip-bad saves what is whole"):
        pack(str(path), tmp_path / "out", Options())
    packed = pack(str(path), tmp_path / "out", Options(skip_bad=True))
    assert packed.num_pictures == 39
    assert "were left out" in packed.notes[0]


def test_files_that_are_no_pictures_are_noted(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source")
    (source / "cat" / "notes.txt").write_text("x")
    packed = pack(str(source), tmp_path / "out", Options())
    assert any("notes.txt" in note for note in packed.notes)


def test_nothing_is_overwritten_unless_told(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(BadData, match="not empty"):
        pack(str(source), tmp_path / "out", Options())
    assert (tmp_path / "out" / "precious").exists()
    pack(str(source), tmp_path / "out", Options(overwrite=True))
    assert not (tmp_path / "out" / "precious").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadData, match="there is a file"):
        pack(str(source), tmp_path / "file", Options())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "out", "source"]


def test_a_killed_pack_leaves_no_half_result_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from trainers.data.pack.pack import Options, pack\n"
        "pack(sys.argv[1], Path(sys.argv[2]), Options(), lambda done, total: (print(done, flush=True), time.sleep(30)))"
    )
    source, out = class_folders(tmp_path / "source"), tmp_path / "out"
    running = subprocess.Popen([sys.executable, "-c", code, str(source), str(out)], stdout=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline() == b"1\n"
    # While it lives, another pack of the same place leaves its work alone.
    pack(str(source), tmp_path / "other", Options())
    (half,) = (entry for entry in tmp_path.iterdir() if entry.name.startswith(".out.partial"))
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert not out.exists() and half.exists()
    pack(str(source), out, Options())
    assert out.exists() and not half.exists()


def exchanges(one: Path, other: Path) -> bool:
    """Exchange two names with the system's own call; whether it could."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_pack_killed_while_it_replaces_loses_neither_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: int, can_exchange: bool
) -> None:
    """Killed before the given step: a rename or a removal."""
    code = (
        "import ctypes, os, shutil, signal, sys; from pathlib import Path\n"
        "from trainers.data.pack.pack import Options, pack\n"
        "left = int(sys.argv[3])\n"
        "def killing(call):\n"
        "    def wrapped(*arguments, **named):\n"
        "        global left\n"
        "        if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        left -= 1\n"
        "        return call(*arguments, **named)\n"
        "    return wrapped\n"
        "Path.rename, shutil.rmtree = killing(Path.rename), killing(shutil.rmtree)\n"
        "class System:\n"  # the C library, with or without the call that exchanges two names
        "    def __init__(self, *arguments, **named): self.library = library(*arguments, **named)\n"
        "    def __getattr__(self, name):\n"
        "        if name != 'renameat2': return getattr(self.library, name)\n"
        "        if sys.argv[4] == 'False': raise AttributeError(name)\n"
        "        return killing(self.library.renameat2)\n"
        "library, ctypes.CDLL = ctypes.CDLL, System\n"
        "pack(sys.argv[1], Path(sys.argv[2]), Options(overwrite=True))"
    )
    source, out = class_folders(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    if can_exchange and not exchanges(source, out):
        pytest.skip("this file system cannot exchange two names")
    if can_exchange:
        exchanges(source, out)
    (out / "precious").write_text("x")
    words = [sys.executable, "-c", code, str(source), str(out), str(steps), str(can_exchange)]
    code_of_end = subprocess.run(words, capture_output=True).returncode
    if can_exchange:
        assert out.exists()
    there = out.exists()
    with pytest.raises(BadData, match="not empty"):
        pack(str(source), out, Options())
    assert {entry.name for entry in tmp_path.iterdir()} == {"source", "out"}
    assert (out / "precious").exists() != (out / "pack.json").exists()
    assert ("put back" in caplog.text) != there
    assert (code_of_end == -signal.SIGKILL) == (steps < (2 if can_exchange else 3))
    assert (out / "precious").exists() == (steps < (1 if can_exchange else 2))


def test_a_folder_may_be_packed_into_itself_after_a_kill(tmp_path: Path) -> None:
    class_folders(tmp_path / ".out.partial-x" / "former")
    (tmp_path / ".out.partial-x" / ".lock").touch()
    packed = pack(str(tmp_path / "out"), tmp_path / "out", Options(overwrite=True))
    assert packed.num_pictures == 20 and [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from trainers.data.__main__ import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "sys.exit(main(['pack', sys.argv[1], sys.argv[2]]))"
    )
    source = class_folders(tmp_path / "source")
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "no room on the disk" in done.stderr and "Traceback" not in done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("name", ["../../evil", "T-shirt/top", ".hidden", "a\0b", "..", "naïve café", "x" * 300, "\n"])
def test_class_names_never_leave_the_folder(name: str) -> None:
    cleaned = safe(name)
    assert "/" not in cleaned and "\0" not in cleaned and not cleaned.startswith(".") and 0 < len(cleaned) <= 100
    assert safe("naïve café") == "naïve café"


def test_hostile_class_map_stays_inside(tmp_path: Path) -> None:
    path = write_rec(tmp_path / "in" / "x.rec", image_payloads(40, num_classes=4))
    names = ["../../evil", "..", "/etc", "../../EVIL"]
    (tmp_path / "in" / "classes.json").write_text(json.dumps({"class_names": names}))
    pack(str(path), tmp_path / "out", Options(form="lst", shares=ALL_IN_TRAIN))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", "out"]
    assert len(list((tmp_path / "out" / "train").iterdir())) == 4
    assert len(list((tmp_path / "out" / "train").rglob("*.png"))) == 40


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for name, start in (("cat", 0), ("dog", 50)):
        for index in range(4):
            picture(tmp_path / "source" / name / f"part{index}" / "same.png", start + index)
    pack(str(tmp_path / "source"), tmp_path / "out", Options(form="lst", shares=ALL_IN_TRAIN))
    assert len(list((tmp_path / "out" / "train" / "cat").iterdir())) == 4


def test_list_with_root_packs_and_multi_label_records_do_not(tmp_path: Path) -> None:
    path = listed_folder(tmp_path / "root")
    packed = pack(str(path), tmp_path / "out", Options(image_root=tmp_path / "root"))
    assert packed.num_pictures == 20
    several = write_rec(tmp_path / "x.rec", [with_flag(2, [0, 1], encoded(1))] * 3)
    with pytest.raises(BadData, match="2 labels"):
        pack(str(several), tmp_path / "out2", Options())


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = class_folders(tmp_path / "source")
    out = tmp_path / "out"
    assert main(["pack", str(source), str(out), "--split", "train=0.5,validation=0.3,test=0.2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {name: split["pictures"] for name, split in said["splits"].items()} == {
        "train": 10,
        "validation": 6,
        "test": 4,
    }
    assert main(["pack", str(source), str(out)]) == 2
    assert (
        capsys.readouterr().err
        == f"trainers.data: {out}: not empty; give another folder, or --overwrite to replace all of it\n"
    )
    assert main(["pack", str(source), str(out), "--overwrite"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{out}: 20 pictures of 2 classes in ")
    assert "train             16 pictures, 8 a class," in text
    assert main(["pack", "digit", str(out)]) == 2
    assert "Did you mean digits?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "train=0.8"], "add up to 0.8, not 1"),
        (["--split", "dev=0.8"], "expected train=SHARE"),
        (["--split", "train=x"], "expected train=SHARE"),
        (["--split", "train=0.5,train=0.5"], "expected train=SHARE"),
        (["--quality", "0"], "from 1 to 100"),
        (["--resize", "-3"], "of at least 1"),
        (["--format", "tfrecord"], "legal are rec, lst"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "digits", "out", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_interrupted(tmp_path: Path) -> None:
    code = (
        "import signal, sys; from trainers.data.__main__ import main\n"
        "def interrupt(number, frame):\n"  # import locks and other people's `except:` swallow what is raised in them
        "    ours = '/trainers/data/' in frame.f_code.co_filename\n"
        "    if not ours: signal.setitimer(signal.ITIMER_REAL, 0.001)\n"
        "    else: signal.default_int_handler(number, frame)\n"
        "signal.signal(signal.SIGALRM, interrupt); signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "sys.exit(main(['pack', 'digits', sys.argv[1]]))"  # importing scikit-learn alone takes longer
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "trainers.data: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_help_is_light() -> None:
    code = (
        "import sys\nfrom trainers.data.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'cv2', 'mxnet', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
