"""The vocabulary: every parameter, metric and tag of a run, with its type, unit, bounds and direction.

One thing has one name, here and nowhere else. The hyperparameters carry the names, ranges and defaults of SageMaker's
built-in image classification (https://docs.aws.amazon.com/sagemaker/latest/dg/IC-Hyperparameter.html); metrics are
fractions in 0..1 unless the name carries a unit (``_s`` seconds, ``_usd`` US dollars, ``_bytes``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["param", "metric", "tag"]
Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Name:
    """One word of the vocabulary.

    ``low`` and ``high`` are the legal bounds, both included; ``choices`` are the only legal values where there are few.
    ``better`` says which direction of a metric is an improvement. ``used_with`` names the setting without which a
    parameter has no effect, as ``(parameter, values)``.
    """

    key: str
    kind: Kind
    type: type
    title: str
    help: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    default: Any = None
    better: Literal["higher", "lower", ""] = ""
    used_with: tuple[str, tuple[Value, ...]] | None = None


SMALL_IMAGE_DEPTHS = (20, 32, 44, 56, 110)
LARGE_IMAGE_DEPTHS = (18, 34, 50, 101, 152, 200)
DEPTHS = tuple(sorted(SMALL_IMAGE_DEPTHS + LARGE_IMAGE_DEPTHS))
ZOO = (
    *(f"mobilenet{width}" for width in ("1.0", "0.75", "0.5", "0.25")),
    *(f"mobilenetv2_{width}" for width in ("1.0", "0.75", "0.5", "0.25")),
    *("mobilenetv3_large", "mobilenetv3_small", "resnest14", "resnest26", "resnest50", "resnest101"),
    *(f"{kind}{depth}_32x4d" for kind in ("resnext", "se_resnext") for depth in (50, 101)),
)
SPLITS = ("train", "validation", "test")
FOLD = "fold"  # the split of training pictures that a run of --folds holds out


def _param(key: str, type_: type, title: str, help_: str, **rest: Any) -> Name:
    return Name(key=key, kind="param", type=type_, title=title, help=help_, **rest)


_ADAM = ("optimizer", ("adam",))
_STOP = ("early_stopping", (True,))
NETWORK, LR_SCHEDULER = "network", "lr_scheduler"

# The built-in's hyperparameters, in the order of its documentation.
HYPERPARAMETERS: tuple[Name, ...] = (
    _param("num_classes", int, "classes", "number of classes; the data decides", low=2),
    _param("num_training_samples", int, "training images", "pictures in the training split; the data decides", low=1),
    _param(
        "augmentation_type",
        str,
        "augmentation",
        "crop: random crop and flip; crop_color: and random hue, saturation,"
        " lightness (36, 50, 50); crop_color_transform: and rotation to 10 degrees, shear to 0.1, aspect to 0.25",
        choices=("crop", "crop_color", "crop_color_transform"),
    ),
    _param("beta_1", float, "beta 1", "decay of the first moment (adam)", low=0, high=1, default=0.9, used_with=_ADAM),
    _param(
        "beta_2", float, "beta 2", "decay of the second moment (adam)", low=0, high=1, default=0.999, used_with=_ADAM
    ),
    _param(
        "checkpoint_frequency",
        int,
        "checkpoint every",
        "keep a model every so many epochs (unset: only the best by validation accuracy)",
        unit="epochs",
        low=1,
    ),
    _param("early_stopping", bool, "early stopping", "stop when validation accuracy no longer improves", default=False),
    _param("early_stopping_min_epochs", int, "min epochs", "before it may act", low=1, default=10, used_with=_STOP),
    _param("early_stopping_patience", int, "patience", "epochs without improvement", low=1, default=5, used_with=_STOP),
    _param(
        "early_stopping_tolerance",
        float,
        "tolerance",
        "relative improvement over the best accuracy that counts",
        low=0,
        high=1,
        default=0.0,
        used_with=_STOP,
    ),
    _param("epochs", int, "epochs", "passes over the training split", unit="epochs", low=1, default=30),
    _param(
        "eps",
        float,
        "epsilon",
        "added to the denominator (adam, rmsprop)",
        low=0,
        high=1,
        default=1e-8,
        used_with=("optimizer", ("adam", "rmsprop")),
    ),
    _param(
        "gamma",
        float,
        "gamma",
        "decay of the squared gradient's average (rmsprop)",
        low=0,
        high=1,
        default=0.9,
        used_with=("optimizer", ("rmsprop",)),
    ),
    _param(
        "image_shape",
        str,
        "image shape",
        "channels,height,width of the network's input; the data and the depth decide",
        unit="px",
    ),
    _param("kv_store", str, "kv store", "gradient exchange over several machines", choices=("dist_sync", "dist_async")),
    _param("learning_rate", float, "learning rate", "initial learning rate", low=0, high=1, default=0.1),
    _param(
        "lr_scheduler_factor",
        float,
        "lr factor",
        "multiplies the learning rate at each step of lr_scheduler_step",
        low=0,
        high=1,
        default=0.1,
    ),
    _param(
        "lr_scheduler_step", str, "lr steps", "epochs after which the learning rate drops, such as 10,20", unit="epochs"
    ),
    _param("mini_batch_size", int, "batch size", "pictures a step", low=1, default=32),
    _param(
        "momentum",
        float,
        "momentum",
        "momentum (sgd, nag)",
        low=0,
        high=1,
        default=0.9,
        used_with=("optimizer", ("sgd", "nag")),
    ),
    _param("multi_label", int, "multi-label", "1: several labels a picture", choices=(0, 1), default=0),
    _param(
        "num_layers",
        int,
        "layers",
        "depth: 20, 32, 44, 56, 110 for small pictures; 18, 34, 50, 101, 152, 200 for large ones",
        choices=DEPTHS,
    ),
    _param("optimizer", str, "optimizer", "update rule", choices=("sgd", "adam", "rmsprop", "nag"), default="sgd"),
    _param(
        "precision_dtype",
        str,
        "precision",
        "number format of the weights' arithmetic; bfloat16 needs a CPU that has it, float16 a GPU",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
    ),
    _param("resize", int, "resize", "shortest side before cropping to image_shape", unit="px", low=1),
    _param("top_k", int, "top k", "also report how often the label is among the k likeliest", low=2),
    _param(
        "use_pretrained_model",
        int,
        "pretrained",
        "1: start from ImageNet weights with a fresh head, train all of it",
        choices=(0, 1),
        default=0,
    ),
    _param(
        "use_weighted_loss",
        int,
        "weighted loss",
        "1: weigh the classes (multi-label only)",
        choices=(0, 1),
        default=0,
        used_with=("multi_label", (1,)),
    ),
    _param(
        "weight_decay",
        float,
        "weight decay",
        "L2 penalty (sgd, nag)",
        low=0,
        high=1,
        default=0.0001,
        used_with=("optimizer", ("sgd", "nag")),
    ),
)

# How to train well: of this project's trainer alone.
RECIPE: tuple[Name, ...] = (
    _param(NETWORK, str, "network", "of GluonCV's zoo, instead of a ResNet (see --list)", choices=ZOO),
    _param(LR_SCHEDULER, str, "schedule", "step: --lr-scheduler-step; cosine: to 0", choices=("step", "cosine")),
    _param("warmup_epochs", int, "warm-up", "in which the learning rate rises from 0", unit="epochs", low=0),
    _param("label_smoothing", float, "label smoothing", "share of a label given to all classes", low=0, high=0.9),
    _param("mixup", float, "mixup", "alpha: pairs are mixed, shares drawn from Beta(alpha, alpha)", low=0, high=10),
    _param("freeze", str, "frozen", "body: train only the last layer of a transferred network", choices=("body",)),
    _param("unfreeze_epoch", int, "unfrozen", "the first epoch that trains all layers", unit="epochs", low=2),
    _param("class_weights", str, "class weights", "balanced: rare classes count more", choices=("balanced",)),
    _param("decode", str, "decoding", "scaled: training JPEGs much larger than --resize, fast", choices=("scaled",)),
)

# What this project adds.
SETTINGS: tuple[Name, ...] = (
    _param("dataset", str, "data", "a name (see --list) or a path"),
    _param("init", str, "init", "scratch, imagenet, run:<id> or a weights file"),
    _param("seed", int, "seed", "of initial weights, order and augmentation", low=0, high=2**31 - 1, default=0),
    _param(
        "resnet_version",
        str,
        "ResNet version",
        "v1 (post-activation), v2 (pre-activation; He 2016b) or v1b",
        choices=("v1", "v1b", "v2"),
        default="v1",
    ),
    _param(
        "pretext",
        str,
        "pretext task",
        "train on a task made from the pictures alone: rotation (Gidaris 2018)",
        choices=("rotation",),
    ),
    _param(
        "split_seed",
        int,
        "split seed",
        "of the train/validation/test split where the source has none",
        low=0,
        high=2**31 - 1,
        default=0,
    ),
    _param(
        "validation_fraction",
        float,
        "validation share",
        "of a source without a validation split",
        low=0,
        high=0.9,
        default=0.1,
    ),
    _param("test_fraction", float, "test share", "of a source without a test split", low=0, high=0.9, default=0.2),
    _param("group", str, "group", "source of a picture, kept in one split: N-th folder up, regex's group, or column"),
    _param(
        "fold", str, "fold", "2/5: hold the second of five parts of the training pictures out, score them at the end"
    ),
    _param("num_threads", int, "threads", "of the arithmetic; results depend on it", low=1),
    _param("devices", str, "devices", "that share each batch: cpu, cpu:N, gpu (all of them), or GPUs such as 0,1"),
    _param("workers", int, "workers", "processes that train the run together, each with its devices", low=1),
    *RECIPE,
)

# What is also known of a training that is not this project's; no settings of its own trainer.
LOSS = "loss"
BATCHES = "batches"

TRAIN_ACCURACY = "train_accuracy"
TRAIN_LOSS = "train_loss"
VALIDATION_ACCURACY = "validation_accuracy"
VALIDATION_LOSS = "validation_loss"
TEST_ACCURACY = "test_accuracy"
TEST_LOSS = "test_loss"
BEST_VALIDATION_ACCURACY = "best_validation_accuracy"
BEST_EPOCH = "best_epoch"
NEVER_PREDICTED = "validation_never_predicted"
EPOCH_LEARNING_RATE = "epoch_learning_rate"
IMAGES_PER_S = "images_per_s"
EPOCH_TIME_S = "epoch_time_s"
EPOCH_TRAINING_TIME_S = "epoch_training_time_s"
TRAINING_TIME_S = "training_time_s"
TOTAL_TIME_S = "total_time_s"
BILLABLE_TIME_S = "billable_time_s"
COST_USD = "cost_usd"
WARM_POOL_COST_USD_AT_MOST = "warm_pool_cost_usd_at_most"
SPOT_SAVING = "spot_saving"
NUM_PARAMETERS = "num_parameters"
MODEL_SIZE_BYTES = "model_size_bytes"
ONNX_MAX_DIFFERENCE = "onnx_max_difference"
ONNX_SIZE_BYTES, INT8_SIZE_BYTES, INT8 = "onnx_size_bytes", "int8_size_bytes", "int8"


# Scores on other data than a run's own splits have the same names, begun with the data's: ``new-photos_accuracy``.
MAX_DATA_NAME = 60
_SAYS_NOTHING = {"train", "training", "validation", "valid", "val", "test", "testing", "best"}


def data_name(name: str, *folders: str) -> str:
    """What scores on a data set of this name are called; where it says nothing (``test``), with a folder that does.

    Letters, digits, dots and hyphens: an underscore would make ``test_2`` begin as the test split does. ``folders``
    are those it is in, the nearest first.
    """
    word, *places = (
        re.sub(r"[^\w.-]+|_+", "-", unicodedata.normalize("NFC", text))[:MAX_DATA_NAME].strip("-.")
        for text in (name, *folders)
    )
    if word and word.lower() not in _SAYS_NOTHING:
        return word
    place = next((p for p in places if p and p.lower() not in _SAYS_NOTHING), "other")
    return f"{place[: MAX_DATA_NAME - len(word) - 1]}-{word}".strip("-.")


def other_data(tags: Iterable[str]) -> list[str]:
    """The data sets beside its own splits that a run with these tags was scored on, sorted."""
    ending = dataset_digest("")
    return sorted({tag.removesuffix(ending) for tag in tags if tag.endswith(ending)} - {"", *SPLITS})


def accuracy(split: str) -> str:
    """Metric: the share of the split's pictures, or of the data set's, that are recognised."""
    return f"{split}_accuracy"


def loss(split: str) -> str:
    """Metric: the split's mean cross-entropy."""
    return f"{split}_loss"


def num_images(split: str) -> str:
    """Metric: how many pictures the split's score was computed on."""
    return f"{split}_num_images"


def top_k_accuracy(split: str, k: int) -> str:
    """Metric: share of the split's pictures whose label is among the ``k`` likeliest classes."""
    return f"{split}_top{k}_accuracy"


def balanced_accuracy(split: str) -> str:
    """Metric: the mean over the classes of the share that is recognised."""
    return f"{split}_balanced_accuracy"


def macro_f1(split: str) -> str:
    """Metric: the mean over the classes of F1, the harmonic mean of precision and recall."""
    return f"{split}_macro_f1"


def majority_accuracy(split: str) -> str:
    """Metric: the accuracy of always answering the split's commonest class, which a network has to exceed."""
    return f"{split}_majority_accuracy"


# What is logged with a split's accuracy and depends on how common its classes are.
BY_CLASS = (balanced_accuracy, macro_f1, majority_accuracy)


def _metric(key: str, title: str, help_: str, **rest: Any) -> Name:
    return Name(key=key, kind="metric", type=float, title=title, help=help_, **rest)


def _accuracy(key: str, title: str, help_: str) -> Name:
    return _metric(key, title, help_, low=0, high=1, better="higher")


METRICS: tuple[Name, ...] = (
    _accuracy(TRAIN_ACCURACY, "train", "running accuracy over the epoch's augmented training batches"),
    _metric(
        TRAIN_LOSS, "train loss", "mean cross-entropy over the epoch's batches", unit="nats", low=0, better="lower"
    ),
    _accuracy(VALIDATION_ACCURACY, "validation", "of an epoch (the last, if none is named), on every picture once"),
    _metric(VALIDATION_LOSS, "validation loss", "mean cross-entropy", unit="nats", low=0, better="lower"),
    _accuracy(TEST_ACCURACY, "test", "of the checkpoint that validation chose, on every test picture once"),
    _metric(TEST_LOSS, "test loss", "mean cross-entropy", unit="nats", low=0, better="lower"),
    *(_accuracy(top_k_accuracy(split, 5), f"{split} top-5", "label among the 5 likeliest") for split in SPLITS),
    *(
        _accuracy(name(split), f"{split} {title}", help_)
        for split in SPLITS[1:]
        for name, title, help_ in (
            (balanced_accuracy, "balanced", "mean recall of the classes"),
            (macro_f1, "macro-F1", "mean F1 of the classes"),
            (majority_accuracy, "commonest class", "of always answering the commonest class"),
        )
    ),
    *(_metric(num_images(s), f"{s} images", "pictures the score was computed on", low=1) for s in (*SPLITS, FOLD)),
    _accuracy(accuracy(FOLD), "held out", "on the training pictures that the run held out"),
    _metric(loss(FOLD), "held-out loss", "mean cross-entropy on them", unit="nats", low=0, better="lower"),
    _accuracy(BEST_VALIDATION_ACCURACY, "best validation", "the highest of all epochs: that of the kept checkpoint"),
    _metric(NEVER_PREDICTED, "never predicted", "classes with 5 pictures or more that are the answer to none", low=0),
    _metric(BEST_EPOCH, "best epoch", "the epoch of the kept checkpoint, from 1", low=1),
    _metric(EPOCH_LEARNING_RATE, "learning rate", "in force at the end of the epoch", low=0, high=1),
    _metric(IMAGES_PER_S, "images/s", "training pictures a second, evaluation excluded", low=0, better="higher"),
    _metric(EPOCH_TIME_S, "epoch time", "wall time of the epoch, evaluation included", unit="s", low=0),
    _metric(EPOCH_TRAINING_TIME_S, "epoch training time", "of the epoch, without the evaluation", unit="s", low=0),
    _metric(TRAINING_TIME_S, "training time", "wall time of all epochs that count", unit="s", low=0, better="lower"),
    _metric(TOTAL_TIME_S, "time", "wall time of all attempts, start to end", unit="s", low=0, better="lower"),
    *(
        _metric(f"{phase}_s", phase, f"time a cloud job spent {phase}", unit="s", low=0)
        for phase in ("starting", "downloading", "training", "uploading", "interrupted", "stopping")
    ),
    _metric(
        BILLABLE_TIME_S,
        "billable time",
        "seconds the provider charges, before the instance count",
        unit="s",
        low=0,
        better="lower",
    ),
    _metric(COST_USD, "cost", "billable seconds x instances x price", unit="USD", low=0, better="lower"),
    _metric(
        WARM_POOL_COST_USD_AT_MOST,
        "kept machine",
        "what a machine kept for the next job may cost on top, unless that job takes it over",
        unit="USD",
        low=0,
        better="lower",
    ),
    _metric(SPOT_SAVING, "spot saving", "share of the on-demand cost that spot capacity saved", low=0, high=1),
    _metric(NUM_PARAMETERS, "parameters", "trainable weights", low=1),
    _metric(MODEL_SIZE_BYTES, "model size", "of the saved weights", unit="bytes", low=1, better="lower"),
    _metric(ONNX_SIZE_BYTES, "ONNX size", "of the ONNX copy", unit="bytes", low=1, better="lower"),
    _metric(INT8_SIZE_BYTES, "int8 size", "of its copy in 8-bit integers", unit="bytes", low=1, better="lower"),
    _metric(
        ONNX_MAX_DIFFERENCE,
        "ONNX difference",
        "of a probability, ONNX copy against MXNet",
        low=0,
        high=1,
        better="lower",
    ),
)

# Tags. The dotted ones are this project's; MLflow's own start with "mlflow.".
JOURNAL_ID = "journal_id"
FINGERPRINT = "config_fingerprint"
STUDY = "study"
STUDY_RUN = "study_run"
STUDY_PARENT = "study_parent"
TRIAL = "trial"
# On the runs that hold reports themselves, a study's own among them: they are no candidates.
REPORT = "report"
QUESTION = "question"
STUDY_TRIALS = "trials.json"  # the artifact of a study's own run
LAUNCHER = "launcher"
INIT_LABEL = "init_label"
PRETEXT = "pretext"
STATUS_REASON = "status_reason"
ERROR_TYPE = "error_type"
RESUMED = "resumed"
STOPPED_EARLY = "stopped_early"
REPLAY_PROBLEMS = "replay_problems"
SERVER_LACKS = "server_lacks"
ONNX_PROBLEM = "onnx_problem"
TEST_DATASET_DIGEST = "test_dataset_digest"
VALIDATION_DATASET_DIGEST = "validation_dataset_digest"
TRAIN_DATASET_DIGEST = "train_dataset_digest"
TEST_OVERLAP = "test_overlap_images"
TEST_NEAR_OVERLAP = "test_near_overlap_images"
JOB_NAME = "job_name"
JOB_ARN = "job_arn"
JOB_PHASE = "job_phase"
REGION = "region"
INSTANCE_TYPE = "instance_type"
INSTANCE_COUNT = "instance_count"
IMAGE_URI = "image_uri"
IMAGE_DIGEST = "image_digest"
MODEL_URI = "model_uri"
EVALUATION_CHECK = "evaluation_check"
PRICE = "price"
FAILURE_KIND = "failure_kind"
ADVICE = "advice"
FINDINGS = "findings"
IMPORTED_FROM = "imported_from"
IMPORT_DIGEST = "import_digest"
COPIED_FROM = "copied_from"
FLAGGED = "flagged"


def dataset_digest(split: str) -> str:
    """Tag: the content digest of the split's pictures, or of the data set's."""
    return f"{split}_dataset_digest"


def dataset_source(name: str) -> str:
    """Tag: where the pictures of another data set were."""
    return f"{name}_dataset_source"


def overlap(split: str) -> str:
    """Tag: how many of the pictures the run was trained on, or ``unknown``."""
    return f"{split}_overlap_images"


def as_written(metric: str) -> str:
    """Tag: a score as written in the notes that a run was imported from; the metric is the score as it was read."""
    return f"{metric}_as_written"


TAGS: tuple[Name, ...] = tuple(
    Name(key=key, kind="tag", type=str, title=title, help=help_)
    for key, title, help_ in (
        (JOURNAL_ID, "journal", "the journal this run was replayed from"),
        (FINGERPRINT, "configuration", "hash of every setting that decides the result, without the seed"),
        (STUDY, "study", "the study this run belongs to"),
        (STUDY_RUN, "study run", "hash of the planned settings, which tells a study what is done"),
        (STUDY_PARENT, "study's run", "journal of the run that stands for the whole study"),
        (TRIAL, "trial", "the number of the search's trial that this run is, or is part of"),
        (LAUNCHER, "where", "local, sagemaker, sagemaker-builtin or import"),
        (INIT_LABEL, "init", "initial weights in words a reader can judge"),
        (
            PRETEXT,
            "pretext",
            "the pretext task (rotations) of a run that is not ranked and only provides starting weights",
        ),
        (STATUS_REASON, "reason", "why a run ended as it did"),
        (ERROR_TYPE, "error", "the exception's class"),
        (RESUMED, "resumed", "how often the run was continued"),
        (STOPPED_EARLY, "stopped early", "after which epoch early stopping ended training, and why"),
        (REPLAY_PROBLEMS, "problems", "what MLflow could not store of the journal"),
        (SERVER_LACKS, "server lacks", "what the older tracking server does not know and the run has in another way"),
        (ONNX_PROBLEM, "ONNX problem", "why the model has no ONNX copy"),
        (TRAIN_DATASET_DIGEST, "train data", "content digest of the training split"),
        (VALIDATION_DATASET_DIGEST, "validation data", "content digest of the validation split"),
        (TEST_DATASET_DIGEST, "test data", "content digest of the test split; scores compare only where it is equal"),
        (TEST_OVERLAP, "overlap", "how many test pictures training saw as well, or unknown"),
        (TEST_NEAR_OVERLAP, "near overlap", "how many test pictures look like a training picture, if known"),
        (JOB_NAME, "job", "the training job's name in the cloud"),
        (JOB_ARN, "job ARN", "the training job's full name in the cloud"),
        (JOB_PHASE, "phase", "what the job was doing when last looked at"),
        (REGION, "region", "of the cloud"),
        (INSTANCE_TYPE, "machine", "of the cloud job"),
        (INSTANCE_COUNT, "machines", "how many the job had"),
        (IMAGE_URI, "image", "the container image the job ran"),
        (IMAGE_DIGEST, "image digest", "content of that image; a tag may be moved"),
        (EVALUATION_CHECK, "check", "whether a score computed here agrees with the job's own log"),
        (MODEL_URI, "model", "where the job left its model"),
        (PRICE, "price", "an hour of one machine, with its source and date"),
        (FAILURE_KIND, "cause", "data, settings, permission, capacity, quota, disk, memory, aws and the like"),
        (ADVICE, "what to do", "about how the job ended"),
        (FINDINGS, "findings", "what the rules found while it trained"),
        (IMPORTED_FROM, "from", "the file, and the place in it, that a run was read from"),
        (IMPORT_DIGEST, "import", "hash of what was read, which tells a second import what is new"),
        (COPIED_FROM, "copied from", "the id of the run in another store that this one is a copy of"),
        (FLAGGED, "flagged", "scores that are impossible as written, and the values read instead"),
    )
)

ALL: dict[tuple[Kind, str], Name] = {(n.kind, n.key): n for n in (*HYPERPARAMETERS, *SETTINGS, *METRICS, *TAGS)}
PARAMS: dict[str, Name] = {n.key: n for n in (*HYPERPARAMETERS, *SETTINGS)}


def parse(name: Name, text: str) -> Value:
    """Read a stored value back as the type the vocabulary gives it.

    Booleans accept exactly ``true``/``false`` in any case (the built-in writes ``True``/``False``); ints accept whole
    floats (``"3.0"``), and those that are 0 or 1 also ``true``/``false``, since other tools store them so. Raises
    ValueError otherwise.
    """
    text = text.strip()
    if name.choices == (0, 1) and text.lower() in ("true", "false"):
        return int(text.lower() == "true")
    if name.type is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{name.key}: {text!r} is neither true nor false")
        return text.lower() == "true"
    if name.type is int:
        try:
            return int(text)
        except ValueError:
            number = float(text)
            if not number.is_integer():
                raise ValueError(f"{name.key}: {text!r} is not a whole number") from None
            return int(number)
    if name.type is float:
        real = float(text)
        if real != real:
            raise ValueError(f"{name.key}: {text!r} is not a number")
        return real
    return text
