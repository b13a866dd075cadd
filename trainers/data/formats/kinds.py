"""What bytes that should be a picture are, by how they begin: a format, a web page, a pointer, text."""

from __future__ import annotations

import re

READ = ("JPEG", "PNG", "BMP", "WebP", "TIFF")
HEIC = "HEIC"
FOREIGN = ("GIF", HEIC, "AVIF", "JPEG 2000", "JPEG XL", "SVG", "Photoshop")
HEAD_BYTES = 512
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x00\x05\x16\x07", "a Mac's companion file (AppleDouble)"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "a Windows shortcut"),
)
# The brand of a file in ISO's container of pictures and films.
_BRANDS = {
    **dict.fromkeys(("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"), HEIC),
    **dict.fromkeys(("avif", "avis"), "AVIF"),
}
_XML_CODE = re.compile(r"<error>.*?<code>(\w+)", re.DOTALL)


def kind_of(data: bytes) -> str:
    """The name of a format, "text", "an empty file" and so on; "" where it is unknown."""
    if not data:
        return "an empty file"
    head = data[:HEAD_BYTES]
    if not any(head):
        return "nothing but zero bytes (a copy that was not finished)"
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF":
        return "WebP" if data[8:12] == b"WEBP" else "a film" if data[8:11] == b"AVI" else ""
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12].decode("latin-1").lower(), "a film")
    if data[128:132] == b"DICM":
        return "DICOM"
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace").lower()
    else:
        try:
            text = head.decode("utf-8").lower()
        except UnicodeDecodeError as error:
            if error.start < HEAD_BYTES - 3:  # else a character that the cut went through
                return "a web page (HTML)" if b"<html" in head.lower() else ""
            text = head[: error.start].decode("utf-8").lower()
    if "\x00" in text:
        return ""
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer (git lfs pull fetches the picture)"
    if "annex/objects/" in text:
        return "a git-annex pointer (git annex get fetches the picture)"
    if "<svg" in text:
        return "SVG"
    if any(mark in text for mark in ("<html", "<!doctype html", "<head>", "<body")):
        return "a web page (HTML)"
    if (code := _XML_CODE.search(text)) is not None:
        return f"an error answer of a server ({code[1]})"
    if text.lstrip("\ufeff \r\n\t").startswith(("{", "[")):
        return "JSON text"
    return "text"
