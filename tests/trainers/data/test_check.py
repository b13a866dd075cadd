"""check: one scene for each code, clean data stays clean, and what is said is right and can be read by machines."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.pictures import (
    class_folders,
    encoded,
    image_payloads,
    listed_folder,
    picture,
    protobuf_payload,
    with_flag,
    write_list,
    write_rec,
)
from trainers.data.__main__ import main
from trainers.data.check.check import Checked, Job, check
from trainers.data.check.rules import RULES, SEVERITIES
from trainers.data.formats.image_record import pack_image
from trainers.data.formats.recordio import RecordFile
from trainers.data.pack.pack import Options, pack
from trainers.errors import BadData

Scene = Callable[[Path], Checked]
SCENES: dict[str, Scene] = {}


def scene(code: str) -> Callable[[Scene], Scene]:
    """Register a scene in which ``code`` must be found."""

    def register(build: Scene) -> Scene:
        assert code not in SCENES
        SCENES[code] = build
        return build

    return register


def rec(tmp: Path, payloads: list[bytes], name: str = "train.rec") -> Path:
    return write_rec(tmp / name, payloads)


def rec_of(tmp: Path, *images: bytes) -> Checked:
    """Check a good ``.rec`` with some special pictures at its end."""
    special = [pack_image(index % 2, 20 + index, image) for index, image in enumerate(images)]
    return check([rec(tmp, image_payloads(20) + special)], Job())


def named(tmp: Path) -> None:
    (tmp / "classes.json").write_text('{"class_names": ["cat", "dog"]}')


def changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def pil_bytes(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


GREY_8 = Image.fromarray(np.zeros((8, 8), np.uint8))
COLOUR = Image.fromarray(np.zeros((9, 14, 3), np.uint8))


@scene("unknown-form")
def _(tmp: Path) -> Checked:
    (tmp / "x.pdf").write_bytes(b"%PDF-1.4 and so on")
    return check([tmp / "x.pdf"], Job())


@scene("archive")
def _(tmp: Path) -> Checked:
    with tarfile.open(tmp / "x.tar", "w") as archive:
        archive.add(class_folders(tmp / "in", 2))
    return check([tmp / "x.tar"], Job())


@scene("not-for-the-job")
def _(tmp: Path) -> Checked:
    (tmp / "data_batch_1.bin").write_bytes(bytes(3073))
    return check([tmp], Job())


@scene("rec-empty")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, [])], Job())


@scene("rec-not-recordio")
def _(tmp: Path) -> Checked:
    (tmp / "train.rec").write_bytes(b"not at all what was promised")
    return check([tmp / "train.rec"], Job())


@scene("rec-magic")
def _(tmp: Path) -> Checked:
    path = rec(tmp, image_payloads(20))
    at = int(RecordFile(path).scan().offsets[7])
    return check([changed(path, lambda data: data[:at] + b"xxxx" + data[at + 4 :])], Job())


@scene("rec-truncated")
def _(tmp: Path) -> Checked:
    return check([changed(rec(tmp, image_payloads(20)), lambda data: data[:-7])], Job())


@scene("rec-trailing")
def _(tmp: Path) -> Checked:
    return check([changed(rec(tmp, image_payloads(20)), lambda data: data + b"and something else")], Job())


@scene("rec-parts")
def _(tmp: Path) -> Checked:
    return check([changed(rec(tmp, image_payloads(20)), lambda data: data + data[:4] + b"\0\0\0\x60")], Job())


@scene("rec-protobuf")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, [protobuf_payload()] * 4)], Job())


@scene("rec-header")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, [*image_payloads(20), b"short"])], Job())


@scene("rec-multi-label")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, [*image_payloads(20), with_flag(2, [0, 1], encoded(99), 20)])], Job())


@scene("rec-extension")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20), "train.recordio")], Job())


@scene("channel-several-rec")
def _(tmp: Path) -> Checked:
    for name in ("a", "b"):
        rec(tmp / "train", image_payloads(20), f"{name}.rec")
    return check([tmp], Job())


@scene("channel-stray-file")
def _(tmp: Path) -> Checked:
    rec(tmp / "train", image_payloads(20))
    (tmp / "train" / "train.idx").write_text("")
    return check([tmp], Job())


@scene("channel-prefix")
def _(tmp: Path) -> Checked:
    rec(tmp / "train", image_payloads(20))
    rec(tmp / "validation", image_payloads(20, start=50))
    (tmp / "train_old").mkdir()
    return check([tmp], Job())


@scene("channel-missing")
def _(tmp: Path) -> Checked:
    rec(tmp / "train", image_payloads(20))
    return check([tmp], Job())


@scene("content-type")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20))], Job(content_type="application/x-recordio-protobuf"))


@scene("list-empty")
def _(tmp: Path) -> Checked:
    return check([write_list(tmp / "train.lst", [])], Job())


def bad_list(tmp: Path, change: Callable[[bytes], bytes]) -> Checked:
    return check([changed(listed_folder(tmp, list_path=tmp / "train.lst"), change)], Job())


@scene("list-encoding")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\t1\tcaf\xe9.png\n")


@scene("list-bom")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: b"\xef\xbb\xbf" + data)


@scene("list-crlf")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"\n", b"\r\n"))


@scene("list-spaces")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"\t", b" "))


@scene("list-fields")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\tcat/001.png\n")


@scene("list-values")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\tcat\tcat/001.png\n")


@scene("list-multi-label")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\t1\t0\tcat/001.png\n")


@scene("list-path-escapes")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\t1\t../cat/001.png\n")


@scene("list-path-missing")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\t1\tcat/999.png\n")


@scene("list-path-case")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"cat/003.png", b"cat/003.PNG"))


@scene("list-duplicate-index")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"19\t", b"0\t"))


@scene("list-duplicate-path")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data + b"20\t0\tcat/001.png\n")


def labelled(tmp: Path, label: float, job: Job | None = None) -> Checked:
    odd = struct.pack("<IfQQ", 0, label, 20, 0) + encoded(99)
    return check([rec(tmp, [*image_payloads(20), odd])], job or Job())


@scene("label-not-integral")
def _(tmp: Path) -> Checked:
    return labelled(tmp, 0.5)


@scene("label-out-of-range")
def _(tmp: Path) -> Checked:
    return labelled(tmp, 2, Job(num_classes=2))


@scene("label-gap")
def _(tmp: Path) -> Checked:
    return labelled(tmp, 4)


@scene("label-sets-differ")
def _(tmp: Path) -> Checked:
    train = rec(tmp, image_payloads(20))
    return check([train, rec(tmp, image_payloads(21, num_classes=3, start=50), "validation.rec")], Job())


@scene("class-map-differs")
def _(tmp: Path) -> Checked:
    train = listed_folder(tmp / "train", list_path=tmp / "train" / "train.lst")
    validation = listed_folder(tmp / "val", start=50, list_path=tmp / "val" / "val.lst")
    changed(
        validation,
        lambda data: data.replace(b"\t0\t", b"\t9\t").replace(b"\t1\t", b"\t0\t").replace(b"\t9\t", b"\t1\t"),
    )
    return check([train, validation], Job())


@scene("picture-unreadable")
def _(tmp: Path) -> Checked:
    return rec_of(tmp, encoded(99, ".jpg")[:300])


@scene("picture-format")
def _(tmp: Path) -> Checked:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 255)]
    return rec_of(tmp, pil_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))


@scene("picture-huge")
def _(tmp: Path) -> Checked:
    bomb = bytearray(encoded(99))
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2
    return rec_of(tmp, bytes(bomb))


@scene("picture-small")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20))], Job(image_shape=(3, 12, 12)))


@scene("picture-channels")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20))], Job(image_shape=(1, 8, 8)))


@scene("resize-small")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20))], Job(image_shape=(3, 8, 9), resize=8))


@scene("fewer-than-batch")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20))], Job(mini_batch_size=21))


@scene("one-class")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20, num_classes=1))], Job())


@scene("no-pictures")
def _(tmp: Path) -> Checked:
    (tmp / "cat").mkdir()
    return check([tmp], Job())


@scene("rec-fewer-than-list")
def _(tmp: Path) -> Checked:
    write_list(tmp / "train.lst", [(index, 0, f"{index}.jpg") for index in range(21)])
    return check([rec(tmp, image_payloads(20))], Job())


@scene("rec-duplicate-id")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, [*image_payloads(20), pack_image(0, 7, encoded(99))])], Job())


@scene("idx-mismatch")
def _(tmp: Path) -> Checked:
    (tmp / "train.idx").write_text("0\t0\n1\t17\n")
    return check([rec(tmp, image_payloads(20))], Job())


@scene("duplicate-across")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20)), rec(tmp, image_payloads(20, start=18), "test.rec")], Job())


@scene("duplicate-labels")
def _(tmp: Path) -> Checked:
    return rec_of(tmp, encoded(1))


@scene("source-across")
def _(tmp: Path) -> Checked:
    class_folders(tmp / "train")
    class_folders(tmp / "test", 5, start=500)
    return check([tmp], Job(), group="([0-9]+).png")


@scene("near-duplicate-across")
def _(tmp: Path) -> Checked:
    class_folders(tmp / "train", size=(48, 48))
    class_folders(tmp / "test", 5, start=500, size=(48, 48))
    pixels = cv2.imread(str(tmp / "train" / "cat" / "003.png"))
    cv2.imwrite(str(tmp / "test" / "cat" / "copy.jpg"), cv2.GaussianBlur(pixels[:, ::-1], (0, 0), 1))
    return check([tmp], Job())


@scene("near-duplicate-within")
def _(tmp: Path) -> Checked:
    class_folders(tmp, size=(48, 48))
    pixels = cv2.imread(str(tmp / "cat" / "003.png"))
    cv2.imwrite(str(tmp / "cat" / "copy.jpg"), pixels)
    return check([tmp], Job(), within=True)


@scene("duplicate-within")
def _(tmp: Path) -> Checked:
    return rec_of(tmp, encoded(0))


@scene("picture-cmyk")
def _(tmp: Path) -> Checked:
    return rec_of(tmp, pil_bytes(Image.fromarray(np.zeros((8, 8, 4), np.uint8), "CMYK"), "JPEG"))


@scene("picture-16-bit")
def _(tmp: Path) -> Checked:
    return rec_of(tmp, pil_bytes(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG"))


@scene("picture-rotated")
def _(tmp: Path) -> Checked:
    exif = Image.Exif()
    exif[0x0112] = 6
    return rec_of(tmp, pil_bytes(COLOUR, "JPEG", exif=exif))


@scene("picture-animated")
def _(tmp: Path) -> Checked:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 255)]
    return rec_of(tmp, pil_bytes(frames[0], "PNG", save_all=True, append_images=frames[1:]))


@scene("picture-alpha")
def _(tmp: Path) -> Checked:
    return rec_of(tmp, pil_bytes(Image.fromarray(np.zeros((8, 8, 4), np.uint8), "RGBA"), "PNG"))


@scene("picture-misnamed")
def _(tmp: Path) -> Checked:
    class_folders(tmp)
    (tmp / "cat" / "x.jpg").write_bytes(encoded(99, ".png"))
    return check([tmp], Job())


@scene("class-single")
def _(tmp: Path) -> Checked:
    return labelled(tmp, 2)


@scene("class-missing")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20)), rec(tmp, image_payloads(9, 1, start=50), "test.rec")], Job())


@scene("folder-other-files")
def _(tmp: Path) -> Checked:
    (class_folders(tmp) / "cat" / "notes.txt").write_text("x")
    return check([tmp], Job())


@scene("channel-neighbour")
def _(tmp: Path) -> Checked:
    pack(str(class_folders(tmp / "source")), tmp / "out", Options(form="lst"))
    return check([tmp / "out"], Job())


@scene("class-names-missing")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20))], Job())


@scene("resize-missing")
def _(tmp: Path) -> Checked:
    return check([class_folders(tmp)], Job(content_type="application/x-image"))


# What comes along with a code, because one is hardly possible without the other.
COMPANIONS = {
    "archive": set(),
    "rec-magic": {"label-gap"},
    "channel-several-rec": {"channel-missing"},
    "channel-stray-file": {"channel-missing", "idx-mismatch"},
    "channel-prefix": set(),
    "list-spaces": {"no-pictures"},
    "list-empty": {"no-pictures"},
    "list-duplicate-path": {"duplicate-within"},
    "label-gap": {"class-single"},
    "label-out-of-range": {"class-single"},
    "label-sets-differ": set(),
    "duplicate-labels": {"duplicate-within"},
    "resize-small": {"picture-small"},
    "class-missing": {"one-class"},
}


def test_every_code_has_a_scene() -> None:
    assert SCENES.keys() == RULES.keys()


@pytest.mark.parametrize("code", sorted(RULES))
def test_scene(code: str, tmp_path: Path) -> None:
    checked = SCENES[code](tmp_path)
    found = {finding.code for finding in checked.findings}
    assert code in found
    assert found - {"class-names-missing"} <= {code, *COMPANIONS.get(code, ())}
    finding = next(finding for finding in checked.findings if finding.code == code)
    assert finding.count >= 1
    assert str(tmp_path) in finding.file
    assert "{file}" not in finding.fix and "{source}" not in finding.fix and "{{" not in finding.fix
    assert checked.exit_code == int(any(RULES[code].severity != "note" for code in found))


def test_every_rule_says_why_and_how() -> None:
    for rule in RULES.values():
        assert rule.why.endswith((".", "!")) and rule.fix and rule.title
    severities = [rule.severity for rule in RULES.values()]
    assert severities == sorted(severities, key=SEVERITIES.index)


@pytest.mark.parametrize("form", ["rec", "lst"])
@pytest.mark.parametrize("fast", [True, False])
def test_what_pack_writes_is_clean(tmp_path: Path, form: str, fast: bool) -> None:
    pack(str(class_folders(tmp_path / "source", 20)), tmp_path / "out", Options(form=form))
    job = Job(num_classes=2, image_shape=(3, 10, 10), mini_batch_size=4)
    checked = check([tmp_path / "out"], job, fast=fast)
    assert checked.exit_code == 0
    assert {finding.code for finding in checked.findings} <= {"channel-neighbour"}
    assert [(part.name, len(part)) for part in checked.parts] == [("train", 32), ("validation", 4), ("test", 4)]


def test_clean_folder_manifest_and_several_paths(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 10)
    class_folders(tmp_path / "validation", 4, start=100)
    for paths in ([tmp_path], [tmp_path / "validation", tmp_path / "train"]):
        checked = check(paths, Job())
        assert checked.findings == []
        assert [(part.name, len(part), part.class_names) for part in checked.parts] == [
            ("train", 20, ("cat", "dog")),
            ("validation", 8, ("cat", "dog")),
        ]
    rows = [f"train/{name}/{index:03}.png,{name}" for name in ("cat", "dog") for index in range(10)]
    (tmp_path / "m.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    assert check([tmp_path / "m.csv"], Job()).findings == []


def test_parts_say_what_is_there(tmp_path: Path) -> None:
    images = [encoded(1, ".jpg", (20, 30)), encoded(2, ".png", (8, 8), colour=False), encoded(3, ".png", (9, 40))]
    payloads = [pack_image(index % 2, index, image) for index, image in enumerate(images)]
    (part,) = check([rec(tmp_path, payloads)], Job()).parts
    heads = part.looks.heads
    assert heads["height"].tolist() == [20, 8, 9] and heads["width"].tolist() == [30, 8, 40]
    assert heads["components"].tolist() == [3, 1, 3]
    assert part.looks.sizes.tolist() == [len(image) for image in images]
    assert part.counts() == {0: 2, 1: 1}


def test_duplicates_are_named_by_place(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "train")
    shutil.copy(source / "cat" / "003.png", source / "cat" / "copy.png")
    picture(tmp_path / "test" / "dog" / "000.png", 3)
    picture(tmp_path / "test" / "cat" / "000.png", 77)
    checked = check([tmp_path], Job())
    found = {finding.code: finding for finding in checked.findings}
    assert set(found) == {"duplicate-within", "duplicate-across", "duplicate-labels", "class-single"} - {"class-single"}
    assert found["duplicate-within"].examples == (f"{source}/cat/copy.png is {source}/cat/003.png",)
    assert found["duplicate-across"].file == str(tmp_path / "test")
    assert checked.spare == {"train": 1, "test": 0}


def test_fast_sees_headers_but_no_copies(tmp_path: Path) -> None:
    payloads = image_payloads(20)
    path = rec(tmp_path, [*payloads, payloads[0], pack_image(0, 99, b"nothing like a picture" * 3)])
    named(tmp_path)
    codes = {finding.code for finding in check([path], Job(image_shape=(3, 20, 20)), fast=True).findings}
    assert codes == {"picture-unreadable", "picture-small", "rec-duplicate-id"}
    assert check([path], Job(), fast=True).spare is None


@pytest.mark.parametrize("label", [float("nan"), float("inf")])
def test_labels_that_are_no_numbers(tmp_path: Path, label: float) -> None:
    named(tmp_path)
    (finding,) = labelled(tmp_path, label).findings
    assert finding.code == "label-not-integral"
    assert finding.examples == (f"record 20: label {label:g}",)
    line = f"20\t{label}\tcat/001.png\n".encode()
    codes = {found.code for found in bad_list(tmp_path, lambda data: data + line).findings}
    assert codes - {"class-names-missing"} == (
        {"list-values"}
        if label != label
        else {"label-not-integral", "list-duplicate-path", "duplicate-within", "duplicate-labels"}
    )


def test_animated_gif_under_a_jpg_name(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 255)]
    class_folders(tmp_path)
    (tmp_path / "cat" / "x.jpg").write_bytes(pil_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    (finding, *rest) = check([tmp_path], Job()).findings
    assert finding.code == "picture-format" and finding.examples == (f"{tmp_path}/cat/x.jpg: gif, animated",)
    assert {found.code for found in rest} <= {"picture-misnamed"}


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named(tmp_path)
    good = rec(tmp_path, image_payloads(20))
    assert main(["check", str(good)]) == 0
    text = capsys.readouterr().out
    assert f"{good}: RecordIO of images, 20 pictures," in text
    assert "sizes    10 x 12 px; colour 20; png 20" in text
    assert "classes  2: 0 cat: 10, 1 dog: 10" in text
    assert text.endswith("clean: no problem found\n")

    bad = rec(tmp_path, [*image_payloads(20), b"short"], "bad.rec")
    assert main(["check", str(bad), "--image-shape", "3,28,28", "--mini-batch-size", "4"]) == 1
    text = capsys.readouterr().out
    assert "REFUSED  rec-header  " in text and "    record 20: 5 bytes" in text
    assert "REFUSED  picture-small  " in text and ", 20 times" in text
    assert f"fix   python -m trainers.data pack {bad} OUT --format rec --skip-bad" in text

    assert main(["check", str(bad), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 1 and said["parts"][0]["pictures"] == 21
    assert [finding["code"] for finding in said["findings"]] == ["rec-header"]
    assert said["findings"][0]["examples"] == ["record 20: 5 bytes"]

    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert "not there" in capsys.readouterr().err


def test_output_may_be_cut_short_by_its_reader(tmp_path: Path) -> None:
    path = rec(tmp_path, [*image_payloads(20), *[b"short"] * 20_000])
    command = f"{sys.executable} -m trainers.data check {path} --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "{\n" and done.stderr == ""


def test_what_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("no,columns\n")
    with pytest.raises(BadData, match="no column path"):
        check([tmp_path / "m.csv"], Job())


def test_every_code_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    for code, rule in RULES.items():
        assert f"| `{code}` | {rule.title} | {rule.why} |" in page


def test_mending_names_the_whole_data_set(tmp_path: Path) -> None:
    source = tmp_path / "my data"
    class_folders(source / "train", 4)
    class_folders(source / "test", 2, start=100)
    (finding, _) = check([source], Job(image_shape=(3, 20, 20))).findings
    assert finding.file == str(source / "test")
    assert finding.fix.startswith(f"python -m trainers.data pack '{source}' OUT ")
    path = listed_folder(tmp_path / "root")
    (finding, _) = check([path], Job(image_shape=(3, 20, 20)), image_root=tmp_path / "root").findings
    assert f" pack {path} --image-root {tmp_path}/root OUT " in finding.fix


def test_mending_commands_mend(tmp_path: Path) -> None:
    named(tmp_path)
    path = changed(
        listed_folder(tmp_path, list_path=tmp_path / "train.lst"),
        lambda data: b"\xef\xbb\xbf" + data.replace(b"\t", b" ").replace(b"\n", b"\r\n"),
    )
    for code in ("list-bom", "list-crlf", "list-spaces"):
        finding = next(found for found in check([path], Job()).findings if found.code == code)
        subprocess.run(finding.fix, shell=True, check=True)
    assert check([path], Job()).findings == []
    changed(path, lambda data: data.replace(b"19\t", b"0\t"))
    (finding,) = check([path], Job()).findings
    fixed = subprocess.run(finding.fix, shell=True, check=True, capture_output=True).stdout
    path.write_bytes(fixed)
    assert check([path], Job()).findings == []
    assert cv2.imread(str(tmp_path / "cat" / "000.png")) is not None
