"""A job's FailureReason: whose matter it is and what to do about it.

Enters: AWS's text. Leaves: a Failure. The messages are those of real jobs, the oldest from 2018.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from trainers.sagemaker.job.phases import End

Kind = Literal[
    "data",
    "settings",
    "permission",
    "capacity",
    "quota",
    "disk",
    "memory",
    "machine",
    "image",
    "algorithm",
    "aws",
    "limit",
    "stopped",
]


@dataclass(frozen=True)
class Failure:
    """Whose matter it is, and in a sentence what to do. ``retry``: the same job may well succeed another time."""

    kind: Kind
    advice: str
    retry: bool = False


_PREFLIGHT = "`--dry-run` checks the data before a machine is rented."
# The first that matches counts, so the narrow ones come first.
_KNOWN: tuple[tuple[str, Failure], ...] = (
    (
        r"CapacityError|InsufficientInstanceCapacity|Unable to provision requested ML compute capacity",
        Failure(
            "capacity",
            "AWS has no such machine free just now. Try later, or another --instance-type or --region; nothing was"
            " billed for the wait.",
            retry=True,
        ),
    ),
    (
        r"ResourceLimitExceeded|service limit '",
        Failure(
            "quota",
            "The account's quota for this machine is used up. Wait for other jobs to end, or ask for more in the"
            " Service Quotas console (SageMaker).",
            retry=True,
        ),
    ),
    (
        r"No space left on device|DiskFull|disk (is )?full|ENOSPC|not enough (disk )?space",
        Failure(
            "disk",
            "The disk was too small for data, checkpoints and model. Give more --volume-gb, or a machine with a larger"
            " disk of its own.",
        ),
    ),
    (
        r"out of memory|OutOfMemory|cudaMalloc|Cannot allocate memory|exit code: 137",
        Failure("memory", "Out of memory. Take a smaller --mini-batch-size or a machine with more memory."),
    ),
    (
        r"Please use a GPU instance|only GPU instances are supported|no CUDA-capable device|CUDA driver version"
        r"|no kernel image is available",
        Failure(
            "machine",
            "The image needs a GPU that it was built for: take --instance-type ml.g4dn.xlarge, g5 or p3.",
        ),
    ),
    (
        r"CannotPullContainer|ImagePull|(?:repository|registry).{0,80}(?:not found|does not exist)|pull.{0,40}ECR",
        Failure(
            "image",
            "The container image could not be fetched. Check --image, that it is in the job's region, and that the"
            " role may read the registry.",
        ),
    ),
    (
        r"Access ?Denied|403 Forbidden|status code: 403|not authorized|Could not assume role|s3:ListBucket",
        Failure(
            "permission",
            "The job's role may not do this. Give the role leave for the bucket, key or image that is named.",
        ),
    ),
    (
        r"Empty \.rec file",
        Failure(
            "data",
            "A .rec file is empty: the packer found no picture, as with a wrong root folder. Pack it anew;"
            f" {_PREFLIGHT}",
        ),
    ),
    (
        r"bigger or equal to the mini_batch_size",
        Failure(
            "data",
            "Fewer readable pictures than --mini-batch-size: wrong paths in the list count as missing. Mend the paths,"
            f" or take smaller batches. {_PREFLIGHT}",
        ),
    ),
    (
        r"Invalid lst file",
        Failure("data", f"A list needs index, label and path, separated by tabs. Mend it; {_PREFLIGHT}"),
    ),
    (
        r"magic number|Unable to parse record|correct recordio format",
        Failure(
            "data",
            "What was read is not RecordIO of pictures: the prefix holds another file, or the content type is wrong"
            f" (application/x-recordio). {_PREFLIGHT}",
        ),
    ),
    (
        r"Got empty batch from pipe|AttributeNames",
        Failure("data", "The manifest's attribute names do not match the job's: picture first, then label."),
    ),
    (
        r"Mismatch between number of labels|label.{0,40}(?:out of range|num_classes)",
        Failure("data", f"Labels and --num-classes do not agree; labels run from 0 to one less. {_PREFLIGHT}"),
    ),
    (
        r"No S3 objects found|does not exist|NoSuchKey|NoSuchBucket|[Dd]ata download failed|failed to download",
        Failure("data", f"Data that the job was to read could not be read from S3. Check the paths; {_PREFLIGHT}"),
    ),
    (
        r"hyperparameter|ValidationError|num_layers|image_shape",
        Failure("settings", "A setting is not one that the algorithm takes. `--dry-run` names it."),
    ),
    (
        r"InternalServerError|We encountered an internal error|Internal Server Error",
        Failure("aws", "A fault at AWS. Start the job again.", retry=True),
    ),
    (
        r"ClientError|Customer Error|Input Error|BadInput|BadConfig|BadData",
        Failure("data", f"The algorithm cannot work with what it was given: see the log's last lines. {_PREFLIGHT}"),
    ),
)
_OTHER = Failure(
    "algorithm",
    "The training program ended with an error: the log's last lines say which (`python -m trainers.jobs logs`).",
)
_COMPILED = [(re.compile(pattern), failure) for pattern, failure in _KNOWN]


def classify(reason: str) -> Failure:
    """What a FailureReason means."""
    return next((failure for pattern, failure in _COMPILED if pattern.search(reason)), _OTHER)


def of_end(end: End, *, has_model: bool) -> Failure | None:
    """What is to be said about a job's end; None where all went well."""
    if end.status == "FINISHED":
        return None
    return classify(end.reason) if end.status == "FAILED" else of_stop(end.secondary, has_model=has_model)


def of_stop(secondary: str, *, has_model: bool) -> Failure:
    """What a Stopped job's secondary status means; ``has_model``: it left a model all the same."""
    kept = "The best model until then was kept." if has_model else "No model was left."
    if secondary == "MaxRuntimeExceeded":
        return Failure("limit", f"The time limit was reached. {kept} Give more with --max-runtime (or --max-cost).")
    if secondary == "MaxWaitTimeExceeded":
        return Failure("limit", f"Spot had no machine in time. {kept} Give more --max-wait, or leave out --spot.", True)
    return Failure("stopped", f"Stopped on request. {kept}")
