"""check: one scene for each code, clean data stays clean, and what is said is right and can be read by machines."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from tests.support import ROOT
from tests.support.pictures import (
    class_folders,
    encoded,
    image_payloads,
    listed_folder,
    noise,
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
from trainers.data.pictures import codec
from trainers.errors import BadData

register_heif_opener()
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


def heic(value: int) -> bytes:
    return pil_bytes(Image.fromarray(noise(value, (24, 20))), "HEIF", quality=90)


@contextlib.contextmanager
def without_pillow_heif(patch: pytest.MonkeyPatch) -> Iterator[None]:
    patch.setitem(sys.modules, "pillow_heif", None)
    codec.reads_heic.cache_clear()
    yield
    codec.reads_heic.cache_clear()


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
    return bad_list(tmp, lambda data: data + b"x\t1\tcat/001.png\n")


@scene("list-separator")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"\t", b","))


@scene("list-header")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: b"index\tlabel\tpath\n" + data)


@scene("list-quotes")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"cat/003.png", b'"cat/003.png"'))


@scene("list-columns")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"0\tcat/003.png", b"cat/003.png\t0"))


@scene("list-names")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"\t0\t", b"\tcat\t").replace(b"\t1\t", b"\tdog\t"))


@scene("list-backslash")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"cat/", b"cat\\"))


@scene("list-blanks")
def _(tmp: Path) -> Checked:
    return bad_list(tmp, lambda data: data.replace(b"cat/003.png", b"cat/003.png "))


@scene("rec-no-picture")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, [with_flag(2, [21, 25], b"", 0), *image_payloads(20, start=1)[1:]])], Job())


def manifest(tmp: Path, *more: str) -> Checked:
    rows = [
        f'{{"source-ref": "s3://b/{name}/{at:03}.png", "class": {label}}}'
        for label, name in enumerate(("cat", "dog"))
        for at in range(2)
    ]
    (tmp / "m.manifest").write_text("\n".join((*rows, *more)))
    return check([tmp / "m.manifest"], Job())


@scene("manifest-line")
def _(tmp: Path) -> Checked:
    class_folders(tmp, 2)
    return manifest(tmp, "cat/001.png,0")


@scene("manifest-no-label")
def _(tmp: Path) -> Checked:
    class_folders(tmp, 2)
    return manifest(tmp, '{"source-ref": "s3://b/cat/001.png"}')


@scene("manifest-elsewhere")
def _(tmp: Path) -> Checked:
    return manifest(tmp)


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
    train = rec(tmp, image_payloads(21, num_classes=3))
    return check([train, rec(tmp, image_payloads(10, 2, start=50), "test.rec")], Job())


@scene("split-one-class")
def _(tmp: Path) -> Checked:
    return check([rec(tmp, image_payloads(20)), rec(tmp, image_payloads(9, 1, start=50), "test.rec")], Job())


@scene("class-names-alike")
def _(tmp: Path) -> Checked:
    return check([class_folders(tmp, classes=("Dog", "cat", "dog"))], Job())


@scene("class-empty")
def _(tmp: Path) -> Checked:
    (class_folders(tmp) / "fox").mkdir()
    return check([tmp], Job())


@scene("class-unreadable")
def _(tmp: Path) -> Checked:
    gif = pil_bytes(GREY_8, "GIF")
    (class_folders(tmp) / "fox").mkdir()
    (tmp / "fox" / "1.gif").write_bytes(gif)
    return check([tmp], Job())


@scene("picture-heic")
def _(tmp: Path) -> Checked:
    with pytest.MonkeyPatch.context() as patch, without_pillow_heif(patch):
        class_folders(tmp)
        (tmp / "cat" / "x.heic").write_bytes(heic(1))
        return check([tmp], Job())


@scene("folder-leftover")
def _(tmp: Path) -> Checked:
    picture(class_folders(tmp) / "@eaDir" / "1.jpg", 77)
    return check([tmp], Job())


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
    "no-pictures": {"class-empty"},
    "list-backslash": {"label-gap", "one-class"},
    "list-duplicate-path": {"duplicate-within"},
    "label-gap": {"class-single"},
    "label-out-of-range": {"class-single"},
    "label-sets-differ": set(),
    "duplicate-labels": {"duplicate-within"},
    "resize-small": {"picture-small"},
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


# What people's tools write, each before a list that is right otherwise; {} is a line's number, label, path.
LISTS: dict[str, Callable[[int, int, str], str]] = {
    "R's write.table": lambda index, label, path: f'"{index + 1}"\t{index + 1}\t{label}\t"{path}"',
    "pandas' to_csv": lambda index, label, path: f"{index},{label},{path}",
    "to_csv with quotes": lambda index, label, path: f'{index};"{label}";"{path}"',
    "Caffe's train.txt": lambda index, label, path: f"{path} {label}",
    "path first, tabs": lambda index, label, path: f"{path}\t{label}",
    "name first": lambda index, label, path: f"{path.split('/')[0]} {path}",
    "InsightFace": lambda index, label, path: f"1\t{path}\t{label}",
    "Windows": lambda index, label, path: f"{index}\t{label}\t{path}".replace("/", "\\") + "\r",
    "a drive": lambda index, label, path: f"{index}\t{label}.000000\tD:\\data\\pics\\{path}".replace("/", "\\"),
    "absolute": lambda index, label, path: f"{index}\t{label}\t/home/someone/data/{path}",
    "S3": lambda index, label, path: f"{index}\t{label}\ts3://bucket/train/{path}",
    "blanks": lambda index, label, path: f"{index}\t{label}\t {path}  ",
    "without ending": lambda index, label, path: f"{index}\t{label}\t{path.removesuffix('.png')}",
    "a tab at the end": lambda index, label, path: f"{index}\t{label}\t{path}\t",
    "brackets": lambda index, label, path: f"{index}\t[{label}]\t{path}",
    "a share": lambda index, label, path: f"{index}\t{label}\t\\\\server\\pics\\{path}".replace("/", "\\"),
    "names": lambda index, label, path: f"{index}\t{path.split('/')[0]}\t{path}",
    "names and commas": lambda index, label, path: f"{path},{path.split('/')[0]}",
    "index 0": lambda index, label, path: f"0\t{label}\t{path}",
    "upper case": lambda index, label, path: f"{index}\t{label}\t{path.upper()}",
}


@pytest.mark.parametrize("header", ["", "id\tlabel\tfile\n"])
def test_every_list_is_corrected_by_the_command_that_is_printed(tmp_path: Path, header: str) -> None:
    listed_folder(tmp_path / "my pics", 3)
    rows = [(at, at // 3, f"{('cat', 'dog')[at // 3]}/{at % 3:03}.png") for at in range(6)]
    for number, (name, line) in enumerate(LISTS.items()):
        path = tmp_path / str(number) / "my list.lst"
        path.parent.mkdir()
        path.write_text(header + "".join(line(*row) + "\n" for row in rows), newline="")
        for _ in range(3):
            checked = check([path], Job(), image_root=tmp_path / "my pics")
            wrong = [finding for finding in checked.findings if finding.severity != "note"]
            if not wrong:
                break
            assert {found.code for found in wrong} - {"list-path-missing"} or name == "without ending", name
            command = wrong[0].fix[wrong[0].fix.index("python -m trainers.data relist ") :]
            path = path.with_name(f"{_}.lst")
            assert main(shlex.split(command.replace("OUT.lst", shlex.quote(str(path))))[3:]) == 0
        assert not wrong, (name, wrong)
        assert [(len(part), part.counts()) for part in checked.parts] == [(6, {0: 3, 1: 3})], name


def test_utf16_and_other_encodings_of_a_list(tmp_path: Path) -> None:
    named(tmp_path)
    picture(class_folders(tmp_path, 2) / "cat" / "caf\u00e9.png", 99)
    text = "0\t0\tcat/caf\u00e9.png\r\n1\t1\tdog/000.png\r\n2\t1\tdog/001.png\r\n3\t0\tcat/000.png\r\n"
    for encoding in ("utf-16", "cp1252", "utf-8-sig"):
        (tmp_path / f"{encoding}.lst").write_bytes(text.encode(encoding))
        codes = {found.code for found in check([tmp_path / f"{encoding}.lst"], Job()).findings}
        assert codes & {"list-encoding", "list-bom"}
        assert main(["relist", str(tmp_path / f"{encoding}.lst"), str(tmp_path / f"{encoding}-2.lst")]) == 0
        assert check([tmp_path / f"{encoding}-2.lst"], Job()).findings == []


def test_relist_names_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = listed_folder(tmp_path, 2, list_path=tmp_path / "a.lst")
    changed(path, lambda data: data + b"4\t0\tcat/404.png\n5 0\n")
    assert main(["relist", str(path), str(tmp_path / "b.lst")]) == 0
    said = capsys.readouterr().out
    assert (
        "4 pictures" in said and "line 5: 'cat/404.png' is not below" in said and "line 6: '5 0' cannot be read" in said
    )
    assert main(["relist", str(path), str(tmp_path / "b.lst")]) == 2
    assert "is there already" in capsys.readouterr().err
    changed(path, lambda _: b"0\t0\tnothing.png\n")
    assert main(["relist", str(path), str(tmp_path / "c.lst")]) == 2
    assert not (tmp_path / "c.lst").exists()


def test_lists_of_several_labels_are_checked_as_such(tmp_path: Path) -> None:
    named(tmp_path)
    class_folders(tmp_path, 2)
    path = tmp_path / "m.lst"
    path.write_text("0\t1\t1\tcat/000.png\n1\t0\t1\tcat/001.png\n2\t1\t0\tdog/000.png\n")
    (finding,) = check([path], Job()).findings
    assert finding.code == "list-multi-label" and "a multi-label list" in finding.examples[0]
    checked = check([path], Job(num_labels=0))
    assert checked.findings == [] and [len(part) for part in checked.parts] == [3]
    assert main(["check", str(path), "--multi-label", "--num-classes", "2"]) == 0
    changed(path, lambda data: data + b"3\t1\t2\tdog/001.png\n4\t1\tdog/001.png\n")
    assert {found.code for found in check([path], Job(num_labels=0)).findings} == {
        "label-out-of-range",
        "list-multi-label",
    }
    path.write_text("0\t2\t5\t1\t0.1\t0.1\t0.5\t0.5\tcat/000.png\n")
    assert "an object-detection list" in check([path], Job()).findings[0].examples[0]


def test_heic_is_read_where_pillow_heif_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "data", 3)
    for index in range(3):
        (tmp_path / "data" / "dog" / f"{index:03}.png").unlink()
        (tmp_path / "data" / "dog" / f"{index}.{'jpg' if index else 'heic'}").write_bytes(heic(index))
    checked = check([tmp_path / "data"], Job())
    found = {finding.code: finding for finding in checked.findings}
    assert set(found) == {"picture-format", "picture-misnamed"} and found["picture-format"].count == 3
    command = found["picture-format"].fix.replace("OUT", str(tmp_path / "out"))
    assert main([*shlex.split(command)[3:], "--split", "train=1"]) == 0
    assert check([tmp_path / "out"], Job()).parts[0].counts() == {0: 3, 1: 3}
    with without_pillow_heif(monkeypatch):
        found = {finding.code: finding for finding in check([tmp_path / "data"], Job()).findings}
        assert set(found) == {"picture-heic", "picture-misnamed", "class-unreadable"}
        assert found["picture-heic"].fix.startswith("pip install pillow-heif && python -m trainers.data pack ")
        with pytest.raises(BadData, match="HEIC, as phones write it; pip install pillow-heif reads it"):
            pack(str(tmp_path / "data"), tmp_path / "out2", Options())


BYTES = {
    "html": (b"\n <!DOCTYPE html><title>404</title>", "a web page (HTML)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s10--ab.jpg\n", "a git-annex pointer"),
    "s3": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "an error answer of a server (accessdenied)",
    ),
    "json": (b'{"message": "Not Found"}', "JSON text"),
    "text": (b"no picture", "text"),
    "empty": (b"", "an empty file"),
    "zero": (bytes(400), "nothing but zero bytes"),
    "pdf": (b"%PDF-1.4", "PDF"),
    "mac": (b"\x00\x05\x16\x07\x00\x02", "a Mac's companion file"),
    "film": (b"\x00\x00\x00\x18ftypqt  ", "a film"),
    "avif": (b"\x00\x00\x00\x18ftypavif" + bytes(20), "AVIF"),
}


def test_what_is_no_picture_is_named_for_what_it_is(tmp_path: Path) -> None:
    class_folders(tmp_path, 2)
    for name, (data, _) in BYTES.items():
        (tmp_path / "cat" / f"{name}.jpg").write_bytes(data)
    finding = next(found for found in check([tmp_path], Job()).findings if found.code == "picture-unreadable")
    assert finding.count == len(BYTES)
    for name, (_, words) in BYTES.items():
        assert any(f"/{name}.jpg: {words}" in example for example in finding.examples), name


def test_a_class_whose_pictures_cannot_be_read_does_not_vanish(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for name, data in (("gif", pil_bytes(GREY_8, "GIF")), ("text", b"a word")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dat").write_bytes(data)
    findings = [found for found in check([tmp_path], Job()).findings if found.code == "class-unreadable"]
    assert "gif: no picture by its name, but GIF 1" in findings[0].examples[0] and "text 1" in findings[0].examples[1]
    with pytest.raises(BadData, match="folder gif has no picture that is read, but GIF 1"):
        pack(str(tmp_path), tmp_path / "out", Options())
    shutil.rmtree(tmp_path / "gif")
    shutil.rmtree(tmp_path / "text")
    for path in (tmp_path / "dog").iterdir():
        path.write_bytes(b"<html>")
    (finding, *_) = [found for found in check([tmp_path], Job()).findings if found.code == "class-unreadable"]
    assert finding.examples[0].startswith("class 1 dog: none of 10, such as ")


def test_leftovers_of_systems_are_no_classes_and_no_pictures(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for at, folder in enumerate(("@eaDir", "__MACOSX", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN")):
        picture(tmp_path / folder / "1.png", 500 + at)
        picture(tmp_path / "cat" / folder / "1.png", 600 + at)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    checked = check([tmp_path], Job())
    assert [finding.code for finding in checked.findings] == ["folder-leftover"]
    assert checked.findings[0].count == 5 and len(checked.parts[0]) == 20


def test_records_without_pictures_are_left_out_by_the_command(tmp_path: Path) -> None:
    named(tmp_path)
    bare = with_flag(2, [21, 25], b"", 0)
    path = rec(tmp_path, [bare, *image_payloads(21)[1:], bare])
    finding = check([path], Job()).findings[0]
    assert finding.code == "rec-no-picture" and finding.examples == (
        "record 0: 2 labels and no picture",
        "record 21: 2 labels and no picture",
    )
    with pytest.raises(BadData, match="record 0 holds labels and no picture"):
        pack(str(path), tmp_path / "out", Options())
    command = finding.fix.replace("OUT", str(tmp_path / "out"))
    assert main(shlex.split(command)[3:]) == 0
    assert check([tmp_path / "out"], Job()).findings == []
