"""What a job's FailureReason means: texts of SageMaker, S3, the built-in and training programs, by family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from trainers.sagemaker.job.phases import End

Kind = Literal[
    "data",
    "settings",
    "permission",
    "network",
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
    "unknown",
]


@dataclass(frozen=True)
class Failure:
    """What caused it, and in a sentence what to do."""

    kind: Kind
    advice: str


_PREFLIGHT = "`--dry-run` checks the data before a machine is rented."
_SETTING = "A setting is not one that the algorithm takes. `--dry-run` names it."
_LOG = "the log's last lines say more (`python -m trainers.jobs logs`)"
# The first that matches counts: what names one cause comes before what accompanies several.
_KNOWN: tuple[tuple[str, Failure], ...] = (
    (
        r"CapacityError|insufficient.{0,12}capacity|not enough capacity|unable to provision requested"
        r"|temporarily unavailable in supported availability|sufficient \S+ capacity|no spot capacity",
        Failure(
            "capacity",
            "AWS has no such machine free just now. Try later, or another --instance-type or --region; nothing was"
            " billed for the wait.",
        ),
    ),
    (
        r"MISCONFIGURATION:\w+",
        Failure(
            "quota",
            "The queue lets fewer machines run at once than the job wants: raise its environment's maxCapacity.",
        ),
    ),
    (
        r"(?:Resource)?LimitExceeded|reached the limit of|Throttling|rate exceeded|service limit (?:'|for )"
        r"|exceeded the quota|(?<!disk )quota.{0,60}(?:exceed|is 0|reached)|vCPU limit",
        Failure(
            "quota",
            "The account's quota for this machine is used up. Wait for other jobs to end, or ask for more in the"
            " Service Quotas console (SageMaker).",
        ),
    ),
    (
        r"no space left on device|disk (?:is )?full|DiskFull|ENOSPC|disk quota exceeded|StorageFull|out of disk"
        r"|(?:insufficient|not enough|lack of) (?:disk|storage|free space)|Errno 28\b|device is full|VolumeSizeInGB"
        r"|(?:exceeds?|(?:larger|bigger) than).{0,40}(?:volume|disk|storage)"
        r"|(?:volume|disk|storage)\b.{0,20}(?:is |was )?(?:too small|exceeded)",
        Failure(
            "disk",
            "The disk was too small for data, checkpoints and model. Give more --volume-gb, or a machine with a larger"
            " disk of its own.",
        ),
    ),
    (
        r"out[ _-]?of[ _-]?(?:shared )?memory|\bOOM\b|OOM-?killed|bad_alloc|cudaMalloc|MemoryError"
        r"|cannot allocate memory|(?:unable|failed) to allocate|(?:more|insufficient|not enough) memory|alloc_failed"
        r"|exit ?code:? ?'?(?:137|-9)\b|SIGKILL|signal:? (?:9|killed)\b|return code (?:= )?-9",
        Failure("memory", "Out of memory. Take a smaller --mini-batch-size or a machine with more memory."),
    ),
    (
        r"(?:use|requires) a GPU|only GPU instances|no CUDA-capable device|no (?:CUDA )?GPUs? (?:is|are|was|were)"
        r"|CUDA driver version|no kernel image is available"
        r"|(?:instance type |ml\.)\S+ is (?:not|no longer) (?:supported|available)|NVIDIA driver"
        r"|resource training-job/\S+ is not available",
        Failure(
            "machine",
            "The region has no such machine, or the image needs another: a GPU that it was built for, such as"
            " --instance-type ml.g4dn.xlarge, ml.g5.xlarge or ml.p3.2xlarge.",
        ),
    ),
    (
        r"(?:cannot|can't|unable to|failed to|could not|error) ?(?:pull|find|fetch|download)\w*.{0,20}"
        r"(?:algorithm container|image|container)|Cannot(?:Pull|Start|Create)Container|ImagePull|pulling image"
        r"|manifest unknown|manifest for .{0,200}not found|image '[^']*\.ecr\.|ECR image|requested image"
        r"|the image does not exist|ecr:\w+|for repository:"
        r"|(?:repository|registry).{0,120}(?:not found|does not exist|does not grant)|exec format error"
        r"|executable file not found|ClientError: .{0,40}image (?:was )?not found|TrainingRepositoryAccessMode"
        r"|(?:Repository|Image)NotFoundException|within the repository|pull rate limit|pull access"
        r"|could not be pulled|no matching manifest",
        Failure(
            "image",
            "The container image could not be fetched or started. Check --image, that it is in the job's region and"
            " built for linux/amd64, and that the role may read the registry.",
        ),
    ),
    (
        r"assume (?:the )?(?:provided )?role|sts:AssumeRole|trust (?:policy|relationship)",
        Failure(
            "permission",
            "SageMaker may not take the job's role: check that it exists and that its trust policy names"
            " sagemaker.amazonaws.com.",
        ),
    ),
    (
        r"VPC endpoint|NAT (?:device|gateway)|route table|network ACL|security groups? .{0,40}(?:allow|traffic)"
        r"|(?:subnet|security groups?)\b.{0,40}(?:does|do) not exist"
        r"|free (?:ip )?addresses|unable to execute (?:http )?request|must be addressed using|PermanentRedirect"
        r"|(?:response|status) ?code:? 30[17]|\(30[17]\)|could not connect to the endpoint"
        r"|connect(?:ion)? ?tim(?:ed? ?)out|failed to establish a new connection"
        r"|connection (?:refused|reset|aborted|closed by (?:the )?remote)"
        r"|(?:could(?:n't| not)|can(?:not|'t)|unable to|failed to) connect to|name resolution|name or service not known"
        r"|urlopen error|(?:Connect|Read|SSL|Connection)(?:Timeout|Error)|read timed out|network is unreachable"
        r"|could not resolve host|max retries exceeded|read timeout on endpoint",
        Failure(
            "network",
            "The job's machine could not reach what is named. In a VPC: its subnets need a route to S3 (gateway"
            " endpoint) or a NAT, and security groups that let it out; a bucket must be in the job's region.",
        ),
    ),
    (
        r"no S3 objects found",
        Failure("data", f"There is nothing under the S3 path of a channel. Check the path; {_PREFLIGHT}"),
    ),
    (
        r"access ?(?:to .{0,60} is )?denied|unauthori[sz]ed\b|explicit deny|expired ?token|NoCredentials"
        r"|(?:Head|Get|Put|List)\w+ operation: Forbidden|\bKMS\b"
        r"|\(403\)|403 Forbidden|status ?code:? 403|not authorized|permissions? (?:on|for"
        r"|to) "
        r"|has s3:|kms:\w+|KMS key"
        r"|customer master key|NotAuthorized|UnauthorizedOperation|InvalidAccessKeyId|SignatureDoesNotMatch",
        Failure(
            "permission",
            "The job's role may not do this. Give the role leave for the bucket, key or image that is named.",
        ),
    ),
    (
        r"empty \.rec file",
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
            "Fewer readable pictures than --mini-batch-size: wrong paths in the list count as missing. Fix the paths,"
            f" or take smaller batches. {_PREFLIGHT}",
        ),
    ),
    (
        r"invalid lst file",
        Failure("data", f"A list needs index, label and path, separated by tabs. Fix it; {_PREFLIGHT}"),
    ),
    (
        r"magic number|unable to parse record|correct recordio format|not a valid recordio",
        Failure(
            "data",
            "What was read is not RecordIO of pictures: the prefix holds another file, or the content type is wrong"
            f" (application/x-recordio). {_PREFLIGHT}",
        ),
    ),
    (
        r"got empty batch from pipe|AttributeNames",
        Failure("data", "The manifest's attribute names do not match the job's: picture first, then label."),
    ),
    (
        r"mismatch between number of labels|labels?.{0,40}(?:out of range|num_classes|must be (?:in|between|less))",
        Failure("data", f"Labels and --num-classes do not agree; labels run from 0 to one less. {_PREFLIGHT}"),
    ),
    (
        r"(?:validate|invalid) (?:the )?hyper-?parameters|required property.{0,80}hyper-?parameter"
        r"|invalid MaxWaitTimeInSeconds|ResourceInUse\b",
        Failure("settings", _SETTING),
    ),
    (
        r"MaxRuntimeInSeconds|MaxRuntimeExceeded|exceeded (?:the |its )?(?:maximum|max) .{0,10}run ?time",
        Failure("limit", "The time limit was reached. Give more with --max-runtime (or --max-cost)."),
    ),
    (
        r"hidden files?\b|(?:data|data ?set|channel|manifest) (?:path )?(?:is|was|are) (?:either )?(?:empty|invalid)"
        r"|(?:training|validation|test) data (?:processed|found)|label.{0,40}num_classes",
        Failure("data", f"A channel's data is empty, or not what the algorithm reads. {_PREFLIGHT}"),
    ),
    (
        r"required property|(?:channel|data configuration).{0,60}(?:missing|required|not (?:found|specified|provided))"
        r"|(?:missing|required|no|extraneous) (?:(?:input|data|content type|data in) )?(?:for )?(?:\w+ )?channels?\b"
        r"|ChannelDoesNotExist"
        r"|is not (?:in )?'?\w+'? format|not a valid path|pipe mode .{0,60}(?:not|no longer) supported"
        r"|(?:training|validation|test) data\S* .{0,20}(?:not exist|not found)"
        r"|(?:no such file|not found|no \w* ?files?|missing|empty).{0,80}/opt/ml/input/data",
        Failure("data", f"A channel that is needed is missing, or empty. {_PREFLIGHT}"),
    ),
    (
        r"InternalServerError|internal (?:server |service )?error|platform error|uncorrectable ECC|Xid \d"
        r"|service ?unavailable|SlowDown|GPU is lost|fallen off the bus"
        r"|instance.{0,30}(?:unhealthy|hardware)|hardware (?:check )?(?:failure|failed|error|fault)"
        r"|pipe channel timed out",
        Failure("aws", "A fault at AWS. Start the job again."),
    ),
    (
        r"hyper-?parameter|\bparameters? ['\"]|invalid parameter"
        r"|less than the minimum|greater than the maximum|is not of type|is not one of \[|additional properties are not"
        r"|failed to satisfy constraint|unrecognized arguments|error: argument |arguments are required"
        r"|BadConfig|BadInput",
        Failure("settings", _SETTING),
    ),
    (
        r"NoSuchKey|NoSuchBucket|data download failed|failed to download data|\(404\)|content-?type"
        r"|determine delimiter|in first ?line|S3 (?:prefix|key|uri|url)|manifest file|augmented manifest"
        r"|no \.?\w* ?files? (?:was |were )?found|BadData|input data|(?:data|file) format"
        r"|(?:image|label|rec|lst|csv) files?.{0,40}(?:invalid|not found|missing|empty|corrupt)"
        r"|cannot identify image file|decoding failed|invalid (?:recordio|image|record)\b|imdecode"
        r"|corrupt(?:ed)? (?:jpeg|png|image|record|file)|image file is truncated"
        r"|bucket .{0,80}does not exist|could not find .{0,40}s3://"
        r"|(?:cannot|unable to|could not|failed to|error (?:when|while)) ?(?:pars|decod|load|read)(?:e|ing)? (?:the )?"
        r"(?:data|image|csv|json|libsvm|payload|record|annotation)|specified channel|in the file\. ContentType",
        Failure("data", f"What the job was to read is not there, or not what was announced. Check it; {_PREFLIGHT}"),
    ),
    (
        r"^\s*(?:Framework|Algorithm) ?Error|ExecuteUserScriptError|Traceback \(most recent call last\)|exit ?code",
        Failure("algorithm", f"The training program ended with an error: {_LOG}."),
    ),
)
# What the service blames on the job without one of the texts above: by the things it names.
_BLAMED = (
    (
        r"\b(?:channel|file|label|record|image|annotation|data|dataset|manifest|path|row|column|class)(?:s|es)?\b",
        Failure("data", f"What the job was to read is not what the algorithm takes. Check it; {_PREFLIGHT}"),
    ),
    (
        r"\b(?:parameters?|values?|options?|must|should|metric|only|choose|range|unsupported)\b",
        Failure("settings", _SETTING),
    ),
)
# Its arguments name settings whatever went wrong.
_COMMAND = re.compile(r"^Command \".*", re.MULTILINE | re.DOTALL)
_UNKNOWN = Failure("unknown", f"No known cause fits this text; {_LOG}.")
_ALL = (*_KNOWN, *((rf"^\s*(?:Client|Customer|Input) ?Error: .*{words}", failure) for words, failure in _BLAMED))
_COMPILED = [(re.compile(pattern, re.IGNORECASE | re.DOTALL), failure) for pattern, failure in _ALL]


def classify(reason: str) -> Failure:
    """What a FailureReason means; ``unknown`` where no family of texts fits."""
    text = _COMMAND.sub("", reason)
    return next((failure for pattern, failure in _COMPILED if pattern.search(text)), _UNKNOWN)


def failure_of(end: End, *, has_model: bool) -> Failure | None:
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
        return Failure("limit", f"Spot had no machine in time. {kept} Give more --max-wait, or leave out --spot.")
    return Failure("stopped", f"Stopped on request. {kept}")
