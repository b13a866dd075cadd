"""What can be wrong with data: a rule for each stable code, and a ``Finding`` where one is broken.

They hold for data on this machine and for data in S3. The preflight of a job adds rules of its own for requests,
accounts and the keys of S3. Standard library only. ``docs/data.md`` lists the codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "unchecked", "note"]
# When a job fails: refused when it is made (free), while data come in, when the algorithm starts to read, in an epoch,
# when the model is saved; or not at all, but its result is not what was wanted.
When = Literal["create", "download", "start", "training", "end", "result", ""]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "unchecked", "note")
# What the check of data calls them: the job refuses the data, learns wrongly from it, or could do better.
Level = Literal["refused", "wrong", "unchecked", "advice"]
_LEVELS: dict[Severity, Level] = {
    "error": "refused",
    "warning": "wrong",
    "unchecked": "unchecked",
    "note": "advice",
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a code means. In ``fix``, ``{file}`` is where it was found, ``{list}`` the same as a list with its
    root, and ``{source}`` the data set that it is part of. An error stops a launch."""

    severity: Severity
    when: When
    why: str
    fix: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found: ``what`` was seen, where it leads and what to do.

    Of data: broken in one ``file`` (a path or an ``s3://`` address), ``count`` times; ``examples`` are the first places
    with what is there. ``cost_usd`` is what the job would have cost by the time it failed, None while that is unknown.
    """

    code: str
    what: str
    severity: Severity
    when: When
    why: str
    fix: str
    title: str = ""
    file: str = ""
    count: int = 1
    examples: tuple[str, ...] = ()
    cost_usd: float | None = None

    @property
    def level(self) -> Level:
        """The severity as ``check`` names it: refused, wrong, advice."""
        return "wrong" if self.when == "result" else _LEVELS[self.severity]


PACK = "python -m trainers.data pack"
_REPACK = f"{PACK} SRC OUT --format rec"
_FROM_FILE = f"{PACK} {{source}} OUT --format rec"
_SALVAGE = f"{PACK} {{source}} OUT --format rec --skip-bad"
_REENCODE = f"{PACK} {{source}} OUT --format rec --quality 95"
_RELIST = "python -m trainers.data relist {list} OUT.lst"
_TAKE_OUT = "take out or replace the pictures named"


def _rules(severity: Severity, when: When, *rows: tuple[str, str, str, str]) -> dict[str, Rule]:
    return {code: Rule(severity=severity, when=when, title=title, why=why, fix=fix) for code, title, why, fix in rows}


RULES: dict[str, Rule] = {
    **_rules(
        "error",
        "start",
        ("unknown-form", "neither records, nor a list, nor a folder of pictures",
         "The job knows three forms: .rec, .lst with pictures, augmented manifest.", _REPACK),
        ("archive", "an archive, not unpacked", "The job does not unpack archives.", "tar -xf {file}"),
        ("not-for-the-job", "a form that only this project reads",
         "The built-in takes records or a list with pictures.", _FROM_FILE),
        ("rec-empty", "no record at all",
         "The job stops with 'Empty .rec file in train channel'. im2rec leaves such a file when every picture failed,"
         " mostly because its root argument was wrong.", _REPACK),
        ("rec-not-recordio", "does not begin as RecordIO does",
         "The job stops with 'The Record IO header does not start with the magic number'.", _REPACK),
        ("rec-magic", "damaged: no record begins where one should", "Reading stops there, or the job fails.", _SALVAGE),
        ("rec-trailing", "bytes after the last record", "The reader takes them for a broken record.", _SALVAGE),
        ("rec-parts", "a split record is incomplete", "The reader cannot join its parts.", _SALVAGE),
        ("rec-protobuf", "protobuf records, not images",
         "Same framing, another content: this job reads application/x-recordio, these are"
         " application/x-recordio-protobuf.", _REPACK),
        ("rec-header", "record too short for its header and a picture", "There is nothing to decode.", _SALVAGE),
        ("rec-no-picture", "a record with labels and no picture",
         "There is nothing to decode. InsightFace's packers keep an index of persons in such records, the first and the"
         " last ones.", _SALVAGE),
        ("rec-multi-label", "another number of labels in a record than the job reads",
         "The job reads one label from records with flag 0, with multi_label=1 one for each class; im2rec --pack-label"
         " writes the others.", f"cut the list to index, label, path and pack it: {PACK} LIST OUT --image-root DIR"),
        ("rec-extension", "records, or a channel of them, without a name that ends in .rec",
         "The container searches its channel for *.rec files.", "mv {file} {file}.rec"),
        ("channel-several-rec", "more than one .rec in a channel", "The job wants exactly one.",
         f"cat {{file}}/*.rec > all.rec; {PACK} all.rec OUT --format rec"),
        ("channel-prefix", "a prefix that also matches its neighbours",
         "A channel's S3 prefix is a plain beginning of a key: without a closing slash it takes in the neighbours too.",
         "rename the neighbours, or give the prefix with a closing slash"),
        ("channel-missing", "a channel that the job demands is not there",
         "The built-in needs both, train and validation; of pictures also a list for each.",
         f"{PACK} {{source}} OUT --format rec"),
        ("content-type", "the content type does not fit the data",
         "Records want application/x-recordio; a list with pictures application/x-image.",
         "give the content type named"),
        ("list-empty", "a list without a line", "The job stops with 'Invalid lst file'.", _REPACK),
        ("list-encoding", "a line that is not UTF-8", "Its path matches no picture.", _RELIST),
        ("list-bom", "a byte order mark before the first index", "The first index is no number then.", _RELIST),
        ("list-crlf", "Windows line ends", "The path ends in a carriage return and matches no picture.", _RELIST),
        ("list-spaces", "spaces where tabs must be", "The line has too few fields and is dropped.", _RELIST),
        ("list-separator", "commas or other marks where tabs must be", "The line has too few fields and is dropped.",
         _RELIST),
        ("list-header", "a header line", "Every line is read as a picture; its index is no number.", _RELIST),
        ("list-quotes", "quotes around a field", "They are read as a part of it: no number, or no file of that name."
         " R's write.table writes them without quote=FALSE.", _RELIST),
        ("list-columns", "columns in another order, or one too few or too many",
         "The job reads index, label, path, in this order.", _RELIST),
        ("list-names", "the names of classes where numbers must be",
         "The job reads the label as a number, from 0.", _RELIST),
        ("list-fields", "fewer than three fields", "The line is dropped, with no more than a word in the log.",
         "write index, label, path, separated by tabs"),
        ("list-values", "an index or a label that is no number", "The packer in the container fails.",
         f"write index, label, path, separated by tabs, one number a field: {_RELIST}"),
        ("list-multi-label", "another number of labels in a line than the job reads",
         "With multi_label=0 the job reads a second label for a path; with multi_label=1 it reads one for each class.",
         "keep one label a line, or with multi_label=1 one for each class"),
        ("list-path-escapes", "a path that leaves the root",
         "Paths are relative to the channel; whatever they reach outside is not there in the container.",
         f"write paths that start from the root, without / or .. at the front: {_RELIST}"),
        ("list-backslash", "Windows' separators in a path", "The job runs on Linux and reads them as letters of the"
         " file's name.", _RELIST),
        ("list-blanks", "a blank at the beginning or end of a path", "It is read as a part of the file's name.",
         _RELIST),
        ("list-path-missing", "a path with no file behind it",
         "The picture is dropped; with few left the job stops with 'The number of input images must be bigger or equal"
         " to the mini_batch_size'.",
         f"give the folder the paths start from: --image-root DIR; or leave such lines out: {_RELIST}"),
        ("list-path-case", "a path that differs from the file's name in case",
         "S3 and Linux tell .jpg from .JPG; the file is not found there.", _RELIST),
        ("manifest-line", "a line that is no JSON object with a picture",
         "Each line of an augmented manifest is one object, with source-ref and a label.",
         "write one JSON object a line: {{\"source-ref\": \"s3://…\", \"class\": 0}}"),
        ("manifest-no-label", "a line without a label for its picture",
         "The job stops at a line without the attribute; Ground Truth writes such lines where labeling failed. Training"
         " here leaves them out.", "grep -v '\"failure-reason\"' {file} > OUT.manifest, or label the pictures named"),
        ("resize-small", "resize below image_shape", "resize must reach both sides of the crop.",
         "raise resize to the larger side of image_shape"),
        ("fewer-than-batch", "fewer pictures than mini_batch_size",
         "The job stops with 'The number of input images must be bigger or equal to the mini_batch_size'.",
         "lower mini_batch_size, or add pictures"),
        ("one-class", "a single class", "There is nothing to tell apart.", "add pictures of a second class"),
        ("class-unreadable", "a class of which no picture can be read",
         "Training would go on without the class, or stop at its first picture.",
         "convert its pictures to JPEG or PNG with names that say so, or move the folder away"),
        ("no-pictures", "no picture at all", "There is nothing to learn from.",
         "give the folder that holds the classes"),
    ),
    **_rules(
        "error",
        "training",
        ("rec-truncated", "cut off inside a record",
         "The reader fails at the end of the file. A packer that died, or a broken upload, leaves this.", _SALVAGE),
        ("label-not-integral", "a label that is no whole number", "Classes are counted from 0.", "write whole numbers"),
        ("label-out-of-range", "a label outside 0 .. num_classes - 1",
         "The loss has no such class; the job fails or learns nonsense.", "fix the labels, or --num-classes"),
        ("picture-unreadable", "a picture that cannot be decoded",
         "im2rec drops it silently with several threads and dies on it with one; the job fails at it.",
         f"{_TAKE_OUT}, or: {_SALVAGE}"),
        ("picture-format", "neither JPEG nor PNG", "The job takes these two, whatever the name ends in.", _FROM_FILE),
        ("picture-heic", "HEIC, as phones write it",
         "The job takes JPEG and PNG; this project reads HEIC where pillow-heif is installed, and it is not.",
         f"pip install pillow-heif && {_FROM_FILE}"),
        ("picture-huge", "a picture too large to decode safely", "It would take gigabytes of memory.", _TAKE_OUT),
        ("picture-small", "a picture smaller than image_shape", "Training fails: nothing is left to crop.",
         f"{PACK} {{source}} OUT --format rec --resize PX, or give the job a resize, or a smaller image_shape"),
    ),
    **_rules(
        "error",
        "result",
        ("list-duplicate-index", "an index that occurs twice", "Indexes must be unique; one of the two is lost.",
         _RELIST),
        ("split-one-class", "a split with a single class, where training has more",
         "Its score says only how often that class is answered. A list made of a folder without sub-folders gives every"
         " picture label 0.", "give the split pictures of every class, with the labels of training"),
        ("class-map-differs", "one folder, different labels in two lists",
         "Validation is scored against the wrong classes. Listing each split separately numbers the classes anew.",
         f"make one class map for all: {PACK} SRC OUT"),
    ),
    **_rules(
        "warning",
        "start",
        ("resize-missing", "no resize for image content types",
         "The documentation demands it; pictures smaller than image_shape stop the training.",
         "give the job a resize of at least the larger side of image_shape, such as 256 for 224"),
    ),
    **_rules(
        "warning",
        "result",
        ("rec-fewer-than-list", "fewer records than lines in the list beside",
         "im2rec with several threads silently drops pictures that fail.", _REPACK),
        ("rec-duplicate-id", "two records with one id", "Readers that go by index return one of them for both.",
         _FROM_FILE),
        ("idx-mismatch", "an .idx that does not point at the records",
         "Readers that go by index land in the middle of records. It belongs to another file.", _FROM_FILE),
        ("list-duplicate-path", "a picture listed twice", "It counts twice, and may have two labels.",
         "keep one of the lines"),
        ("label-gap", "labels that are not contiguous",
         "A class without pictures widens the network and shifts what the numbers mean.",
         f"number the classes 0, 1, 2 … without gaps: {PACK} does, from folders"),
        ("label-sets-differ", "labels that training never sees",
         "Every such picture counts as an error. Listing train and validation separately numbers the classes anew.",
         f"make one class map for all: {PACK} SRC OUT"),
        ("duplicate-across", "the same picture in two splits",
         "The score on the second one is partly memory, not skill.", _TAKE_OUT),
        ("near-duplicate-across", "nearly the same picture in two splits",
         "Resized, encoded anew, brighter, mirrored or cropped, or the next frame of a film: the score on the second"
         " one is partly memory, not skill.", f"{_TAKE_OUT}, or split anew with all pictures of a source on one side:"
         " --group"),
        ("source-across", "one source (--group) in two splits",
         "A network recognises the patient, the film or the seller: the score on the second split is partly memory.",
         f"split anew by source: {PACK} SRC OUT --group …, with all pictures in one split"),
        ("duplicate-labels", "the same picture under two labels", "One of them is wrong.", _TAKE_OUT),
        ("picture-cmyk", "a CMYK JPEG", "Readers differ on it: many see inverted colours.", _REENCODE),
        ("picture-16-bit", "16 bits a channel", "Readers keep the high byte, or refuse.", _REENCODE),
        ("picture-rotated", "upright only by its EXIF tag",
         "MXNet's ImageRecordIter turns it, mx.image does not: training and inference may see it differently.",
         _REENCODE),
        ("picture-alpha", "a transparent PNG", "Transparency is dropped: what lay hidden under it shows.", _REENCODE),
        ("class-names-alike", "class names that differ in case, blanks or leading zeros alone",
         "They are mostly one class, written in two ways: nothing in the pictures tells them apart.",
         "give them one name, or names that differ in more"),
        ("class-empty", "a class folder without a file", "Training leaves the class out.",
         "add pictures, or remove the folder"),
        ("class-single", "a class with one picture", "It cannot be both learned and tested.", "add pictures"),
        ("picture-animated", "an animation", "At best its first frame is used.", _REENCODE),
        ("channel-stray-file", "files in a channel that are no part of it",
         "The prefix is copied as a whole: they are downloaded, billed and not used. An index or a list beside the"
         " records has confused readers.", "move them out of {file}"),
        ("picture-channels", "grey where colour is wanted, or the reverse",
         "They are converted: image_shape's channels should be those of the pictures.",
         "give the other --image-shape, or convert them"),
    ),
    **_rules(
        "unchecked",
        "",
        ("manifest-elsewhere", "pictures that are not on this machine",
         "A job reads them from S3; here only their labels were checked.",
         "fetch the pictures and give --image-root DIR"),
    ),
    **_rules(
        "note",
        "",
        ("picture-misnamed", "the name says another format than the bytes",
         "Readers go by the bytes; people and content types go by the name.", "rename the files named"),
        ("duplicate-within", "the same picture more than once in a split", "It weighs double.", _TAKE_OUT),
        ("near-duplicate-within", "nearly the same picture more than once in a split", "It weighs double.", _TAKE_OUT),
        ("class-missing", "a class of the training split that another split lacks",
         "Its score says nothing of that class.", "add pictures of it"),
        ("folder-other-files", "files that are no pictures by their name", "They are left out.", "take them out"),
        ("folder-leftover", "a folder that a system made by itself",
         "It holds copies, previews or waste, not a class; it is left out.", "leave it, or remove it before an upload"),
        ("channel-neighbour", "train also begins the name train_lst",
         "Right for the four channels, but only with a closing slash on each prefix.",
         "end each S3 prefix with a slash"),
        ("class-names-missing", "no names for the classes",
         "im2rec prints them once; without a classes.json the model's answers cannot be read later.",
         f"{_FROM_FILE}, or write classes.json: {{{{\"class_names\": [...]}}}}"),
    ),
}  # fmt: skip
