"""Small inputs for each target: what is right, and what once ended in a traceback, a minute or a gigabyte."""

from __future__ import annotations

import io
import struct
import tarfile

GRAPH = (
    b'{"nodes":[{"op":"null","name":"data","inputs":[]},{"op":"null","name":"w","inputs":[]},'
    b'{"op":"FullyConnected","name":"fc","attrs":{"num_hidden":"3"},"inputs":[[0,0,0],[1,0,0]]}],'
    b'"arg_nodes":[0,1],"heads":[[2,0,0]]}'
)


def weights(shape: tuple[int, ...]) -> bytes:
    """A parameter file with the one array ``w`` of zeros; none where that would be too many."""
    count = 1
    for side in shape:
        count *= side
    head = struct.pack("<QQQIii", 0x112, 0, 1, 0xF993FAC9, 0, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    return head + struct.pack("<iii", 1, 0, 0) + bytes(4 * min(count, 64)) + struct.pack("<QQ", 1, 5) + b"arg:w"


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header and a file of a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def sparse(size: int) -> bytes:
    """A tar of GNU's with one file of ``size`` zeros in no bytes at all."""
    block = bytearray(member("a-0001.params", b"", tarfile.GNUTYPE_SPARSE))
    block[257:265] = b"ustar  \0"
    block[386:398] = block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def tar(**files: bytes) -> bytes:
    """A tar of these files, ``_`` in their names read as ``-``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


MODEL = {"image-classification-symbol.json": GRAPH, "image-classification-0001.params": weights((3, 4))}
MANY = b"9" * 5000

SEEDS: dict[str, tuple[bytes, ...]] = {
    "archive": (
        tar(**MODEL),
        tar(**MODEL, **{"model-shapes.json": b'[{"name":"data","shape":[1,3,2,1e999]}]'}),
        tar(**MODEL, **{"model.json": b'{"image_shape":[3,2,2],"class_names":["a","b"],"epoch":1e999}'}),
        tar(**{**MODEL, "image-classification-symbol.json": b"[" * 5000}),
        member("././@PaxHeader", b"12 comment=x\n", b"x") * 2000,
        member("././@PaxHeader", b"12 comment=x\n", b"g") * 700,
        sparse(8**11 - 1),
        b"<html>",
    ),
    # A link and a file through it, a second name of a file, a device, ways out, a file and one below it, a long name.
    "channel": (
        tar(**MODEL),
        member("l", b"", tarfile.SYMTYPE) + member("l/evil", b"x"),
        member("h", b"", tarfile.LNKTYPE),
        member("d", b"", tarfile.CHRTYPE) + member("p", b"", tarfile.FIFOTYPE),
        member("/tmp/evil", b"x"),
        member("./../evil", b"x"),
        member("a/../../evil", b"x"),
        member("a", b"x") + member("a/b", b"x"),
        member("a", b"", tarfile.DIRTYPE) + member("a", b"x"),
        member("././@LongLink", b"a" * 300, tarfile.GNUTYPE_LONGNAME) + member("a", b"x"),
        member(".", b"x"),
        sparse(8**11 - 1),
    ),
    "symbol": (GRAPH, b"[" * 100_000, b'{"nodes":[[]],"heads":[[0,0]]}', b'{"nodes":[{}],"heads":[[1e999,0]]}')
    + (GRAPH.replace(b"[0,0,0]", b"[" + MANY + b",0]"), b'{"nodes":[{"op":"a","name":"b","inputs":[[1e999,0]]}]}'),
    "params": (weights((3, 4)), weights((0, 2**62)), weights((2**62, 4)), weights(())),
    "notes": (
        b"44 layers, 30 epochs, transfer learning:\ntrain accuracy: 0.99\ntest: 94.5% (945/1000)\n",
        b"| layers | epochs | test acc |\n| --- | --- | --- |\n| 20 | 9 | 0.9 |\n",
        b"44 layers, " + b"9" * 900 + b" epochs\ntest accuracy: 0.97\n",
    ),
    "table": (
        b"layers,epochs,test_accuracy\n20,30,0.9\n",
        b"epoch,test_accuracy\n" + b"9" * 900 + b",0.5\n2,0.6\n",
        b"epochs,note\n1," + b"x" * 200_000,
        b",".join([b"c"] * 20_000) + b"\n1",
        b"run_name,epochs,test_accuracy\n=cmd|' /C calc'!A0,3,0.5\n",
    ),
    "import_json": (
        b'[{"epochs":3,"test_accuracy":0.5}]',
        b"[" * 100_000,
        b'[{"epochs":' + MANY + b"}]",
        b'[{"epochs":1e999,"test_accuracy":[1,{"step":1e999,"value":1}]}]',
        b'[{"a":' + b"[" * 900 + b"]" * 900 + b',"test_accuracy":0.5}]',
    ),
    "import_file": (b"layers;epochs;Test Acc (%)\n20;30;91,5\n", b"\xff\xfee\0", b"layers;Test Acc (\xb9\xb9)\n10;3"),
    "builtin_log": (
        b"[01/02/2020 10:00:00 INFO 1] Epoch[0] Validation-accuracy=0.5",
        b"Final configuration: {u'epochs': u'30'}",
        b"Final configuration: {" + b"(" * 500 + b"}",
        b"Epoch[" + MANY + b"] Train-accuracy=0.5",
    ),
    "failure_reason": (b"ClientError: Out of Memory. Please use a larger instance", b"required " * 300),
    "list": (b"0\t1\ta.jpg\n", b"0\t0\t" + b"a" * 5000 + b".jpg\n", MANY + b"\t0\ta.jpg\n", b"1e999\t1e999\ta\n"),
    "idx": (
        struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 0),
        struct.pack(">IIII", 0x803, 1, 2, 2) + b"abcd",
        struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1),
    ),
    "records": (struct.pack("<II", 0xCED7230A, 28) + struct.pack("<IfQQ", 0, 1, 0, 0) + b"\xff\xd8\xff\xd9",),
    "study": (
        b'title = "a"\n[[runs]]\nname = "b"\nseed = [1, 2]\n',
        b"runs = 5\n",
        b'runs = ["a"]\n',
        b"settings = 5\n[[runs]]\n",
        b"[[runs]]\nseed = [1]\nepochs = " + repr(list(range(1, 1002))).encode(),
        b"[[runs]]\nseed = [1]\nepochs = " + repr(list(range(1, 884))).encode(),  # took 13 s on a busy machine
        b".".join([b"a"] * 100_000) + b" = 1\n",
        b"title = " + b"[" * 50_000,
        b"title = 0x" + b"f" * 3990,
        b"[[runs]]\nname = 5\ninit = 3\npreset = []\n",
    ),
    "config": (b"epochs = 3\n", b"epochs = " + MANY, b"epochs = 0x" + b"f" * 3990, b"epochs = [[1]]\n[tags]\na = {}\n"),
    "journal": (
        b'{"event":"start","version":1,"journal_id":"a","experiment":"e","run_name":null,"attach_run_id":null,'
        b'"parent":null,"start_time_ms":0,"tags":null,"time_ms":0}\n'
        b'{"event":"metric","values":{"a":1.0},"step":1,"time_ms":1}\n',
        b"[" * 100_000 + b"\n",
        b'{"event":"param","values":{"a":' + MANY + b"}}\n",
        b'{"event":"artifact","path":"files/a","artifact_path":"..","placed":1,"time_ms":0}\n',
    ),
    "manifest": (
        b"path,label\na.jpg,cat\n",
        b"path,label\na.jpg," + MANY + b"\n",
        b"path,label\n" + b"a" * 5000 + b",b\n",
    ),
    "augmented": (
        b'{"source-ref":"s3://b/a.jpg","class":0,"class-metadata":{"class-name":"cat",'
        b'"type":"groundtruth/image-classification"}}\n{"source-ref":"s3://b/c.jpg","class":1}\n',
        b'{"source-ref":"output.manifest","class":"' + MANY + b'"}\n',
        b'{"source-ref":"output.manifest","class":' + MANY + b"}\n",
        b'{"source-ref":"output.manifest","class":1e999}\n{"source-ref":"output.manifest","class":1e300}\n',
        b'{"source-ref":"a\\u0000b","class":0}\n{"source-ref":"s3://b/\\ud800","class":"\\ud800"}\n',
        b'{"source-ref":"' + b"a" * 5000 + b'","class":0}\n',
        b'{"source-ref":"output.manifest","class":"' + b"[" * 5000 + b'"}\n',
        b'{"source-ref":"output.manifest","class":0,"class-metadata":{"class-name":[1],"failure-reason":{}}}\n',
        b'{"source-ref":{"a":1},"class":[0,1]}\n{"source":"text","class":null}\n[{"prefix":"s3://b"},"a"]\n{\n',
        b'{"source-ref":"output.manifest","a":1,"b":2,"c-metadata":5}\n',
    ),
    "parquet": (b"PAR1" + bytes(40) + b"PAR1",),
    "page": (
        b"<script>alert(1)</script>",
        b"'\"><svg onload=alert(1)>]]></svg><a href=javascript:alert(1)>",
        b"=cmd|' /C calc'!A0",
        b"@SUM(A1)\t+1\r\n-2+3",
        b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \xc2\x9b2J \xe2\x80\xaegpj.exe",
        b"| a | [b](http://c) ![d](e) **f** `g` <!-- h --> ~~i~~ # j\n\n---\n> k\n```\n1. l",
        b"[bold red]rich[/bold red] [link=http://x]y[/link] \\[z]",
        b"\x00\xff\xfe\xed\xa0\x80&amp;&#60;b&#62;{{ 7*7 }}{% raw %}",
        b"a" * 5000,
    ),
    "secret": (
        b"pa/ss@w:0rd?x#y",
        b"postgresql:/a:b@c",
        b"https://a:b@c@d/?token=e&sig=f",
        b"Authorization: Basic dTpw",
        b"'token': '" + b"a" * 5000 + b"=" * 5000,
        b"a:" * 3000 + b"@b",
        b"x://" * 2000,
    ),
    "request": (
        b"GIF89a",
        b'["/etc/passwd", "../x", "\\u0000", {"b64": "iVBORw0KGgo="}, {"bytes": 5}, [[1e999]], null, true]',
        b'{"height": 1e9, "width": 2, "nChannels": 3, "data": "x"}',
        b'{"image": {"image": {"image": [[[[1]]]]}}}',
        b"[" * 5000 + b"1" + b"]" * 5000,
        b'["0 0 0", "data:image/png;base64,====", "/9j/" , "iVBORw0KGgo\\ud800"]',
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00",
        b"II*\x00\x08\x00\x00\x00\xff\xff",
    ),
}
