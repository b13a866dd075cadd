"""What the preflight can find: stable codes, what each means, when a job would fail of it and how it is repaired.

Enters: a code and what was seen. Leaves: a ``Finding``; ``priced`` adds what the job would have cost by then, and
``render`` makes the list a person reads. What is wrong with the pictures, records and lists themselves has the rules
of the check of data; ``docs/data.md`` lists those and the codes of channels, ``docs/sagemaker.md`` the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tracking.errors.words import money, plural
from trainers.data.check import rules
from trainers.data.check.findings import Findings
from trainers.data.check.rules import SEVERITIES, Finding, Rule, Severity, When
from trainers.sagemaker.errors import Unreachable

_WHEN_SAID = {
    "create": "refused at once",
    "download": "fails while data is downloaded",
    "start": "fails when the algorithm reads its input",
    "training": "fails in training",
    "end": "fails at the end",
    "result": "does not fail; the result suffers",
    "": "",
}


def finding(code: str, what: str, *, fix: str = "", why: str = "", severity: Severity | None = None) -> Finding:
    """A finding of a known code; ``fix`` and ``why`` replace the rule's where more is known."""
    rule = RULES[code]
    return Finding(
        code=code,
        what=what,
        severity=severity or rule.severity,
        when=rule.when,
        why=why or rule.why.rstrip("."),
        fix=fix or rule.fix,
    )


def of_channel(name: str, found: Findings) -> list[Finding]:
    """What the rules of data found in S3, where a command can only be given for a copy; ``name`` is the channel's."""
    findings = []
    for item in found.listed():
        fix = item.fix
        if item.file in fix:
            copy = item.file.rstrip("/").rpartition("/")[2]
            fix = f"copy {item.file} here, {fix.replace(item.file, copy)}, and upload it again"
        findings.append(
            replace(item, what=f"{name}: {item.what}" if name else item.what, why=item.why.rstrip("."), fix=fix)
        )
    return findings


def unasked(code: str, what: str, error: Exception) -> Finding:
    """Something that could not be asked, for want of leave or of an answer."""
    why = "AWS gave no answer" if isinstance(error, Unreachable) else ""
    return finding(code, f"{what}: {short(error)}", why=why, fix="Try again." if why else "")


def short(error: Exception) -> str:
    """An error's first line: behind a proxy AWS's answer may be a whole page."""
    line = str(error).strip().splitlines()[0]
    return line if len(line) <= 200 else line[:199] + "…"


def priced(findings: Iterable[Finding], usd_by: Mapping[str, float]) -> list[Finding]:
    """The findings with what the job would have cost by then, worst first, otherwise in the order they came in."""
    with_cost = [
        replace(f, cost_usd=usd_by.get(f.when)) if f.severity in ("error", "warning") and f.when else f
        for f in findings
    ]
    return sorted(with_cost, key=lambda f: SEVERITIES.index(f.severity))


def merge(by_job: Mapping[str, Iterable[Finding]]) -> list[Finding]:
    """The findings of several jobs, each once, worst first; one that not all of them have says whose it is."""
    first: dict[tuple[str, str], Finding] = {}
    whose: dict[tuple[str, str], list[str]] = {}
    for job, findings in by_job.items():
        for finding in findings:
            first.setdefault((finding.code, finding.what), finding)
            whose.setdefault((finding.code, finding.what), []).append(job)
    out = []
    for key, finding in first.items():
        jobs = whose[key]
        more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        out.append(finding if len(jobs) == len(by_job) else replace(finding, what=f"{jobs[0]}{more}: {finding.what}"))
    return sorted(out, key=lambda f: SEVERITIES.index(f.severity))


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether the launch must stop (unless forced)."""
    return any(f.severity == "error" for f in findings)


def render(findings: Iterable[Finding]) -> str:
    """The findings as text, one paragraph each, and the verdict."""
    findings = list(findings)
    lines = []
    for f in findings:
        lines.append(f"{f.severity:9}  {f.code}: {f.what}")
        parts = [_WHEN_SAID[f.when]]
        if f.cost_usd is not None and f.when not in ("create", "result", ""):
            parts[0] += f", {money(f.cost_usd)} spent by then"
        parts += [f.why]
        for text in (": ".join(part for part in parts if part), f"→ {f.fix}" if f.fix else ""):
            if text:
                lines.append(f"           {text}")
    counts = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    verdict = "ready to launch" if not counts["error"] else "not launched; --force launches all the same"
    lines.append(
        f"preflight: {plural(counts['error'], 'error')}, {plural(counts['warning'], 'warning')},"
        f" {counts['unchecked']} unchecked: {verdict}"
    )
    return "\n".join(lines) + "\n"


def _error(when: When, why: str, fix: str) -> Rule:
    return Rule(severity="error", when=when, why=why, fix=fix)


def _warning(when: When, why: str, fix: str) -> Rule:
    return Rule(severity="warning", when=when, why=why, fix=fix)


def _unchecked(why: str, fix: str) -> Rule:
    return Rule(severity="unchecked", when="", why=why, fix=fix)


def _note(why: str = "") -> Rule:
    return Rule(severity="note", when="", why=why, fix="")


_NO_LEAVE = "the credentials here may not ask"
_REQUEST: dict[str, Rule] = {
    "request-limit": _error("create", "the API's own model forbids it", "Change the value to what is legal."),
    "name-taken": _error("create", "job names are used once in an account and region", "Take another name."),
    "name-unchecked": _unchecked(_NO_LEAVE, "Ask for sagemaker:DescribeTrainingJob; names carry the time anyway."),
    "tag-reserved": _error("create", "tags that begin with aws: are AWS's own", "Rename the tag."),
    "spot-wait": _error(
        "create", "MaxWaitTimeInSeconds includes the run time", "Make --max-wait at least --max-runtime."
    ),
    "spot-warm-pool": _error("create", "a warm pool keeps on-demand machines only", "Drop --spot or --keep-alive."),
    "volume-key": _error(
        "create",
        "the machine trains on its own encrypted disk and refuses a volume's key",
        "Leave the volume's key out.",
    ),
    "runtime-open": _warning("", "AWS lets a hanging job run, and cost, for a day", "Give --max-runtime."),
    "tracking-uri-local": _warning(
        "result", "the container cannot reach an address of this machine", "Leave it out; the journal comes through S3."
    ),
}
_SETTINGS: dict[str, Rule] = {
    "num-classes-missing": _error("start", "the algorithm demands the number", "Give --num-classes."),
    "num-training-samples-missing": _error("start", "the algorithm demands it", "Give --num-training-samples."),
    "init-foreign": _error("start", "the algorithm knows no such start", "Take --on sagemaker."),
    "precision": _error("start", "the algorithm's schema refuses the value", "Take float32 or float16."),
    "setting-foreign": _error("result", "it would be without effect and yet be recorded", "Leave it out."),
    "network-open": _error("start", "the default of 152 layers is rarely meant", "Give both."),
    "depth-image-size": _error("start", "no such network is built for the size", "Change one of the two."),
    "pretrained-image-size": _error("start", "the weights fit no other size", "Give --image-shape 3,224,224."),
    "pretrained-depth": _error("start", "there are no weights for this depth", "Take another depth."),
    "resize-equal": _warning("start", "pictures could come out smaller than the crop", "Raise --resize by a few px."),
    "batch-too-large": _error("start", "no batch could be filled", "Lower --mini-batch-size."),
    "top-k": _error("start", "every picture would count as right, or the metric refuses", "Lower --top-k."),
    "checkpoint-frequency": _error("end", "no checkpoint is ever due", "Lower it, or leave it out."),
    "weighted-loss": _error("start", "weights are defined for several labels a picture", "Leave it out."),
    "batch-below-gpus": _error("start", "each GPU takes its share of the batch", "Raise --mini-batch-size."),
    "kv-store-open": _warning("result", "machines may train side by side unsynchronised", "Give --kv-store dist_sync."),
    "init-local": _error(
        "start", "the container does not have this machine's files and runs", "Send them as the channel init."
    ),
}
_ACCOUNT: dict[str, Rule] = {
    "credentials": _error(
        "create", "nothing can be asked or launched without them", "Give --profile, or log in to AWS."
    ),
    "role-missing": _error("create", "the job has nothing to run as", "Check --role, or have the role made."),
    "role-trust": _error(
        "create", "SageMaker may not take the role on", "Add sagemaker.amazonaws.com to its trust policy."
    ),
    "role-account": _error("create", "a job runs under a role of its own account", "Give a role of this account."),
    "role-permission": _error("download", "the role may not do what the job needs", "Add the permission to the role."),
    "role-unchecked": _unchecked(_NO_LEAVE, "Ask for iam:GetRole, or be sure of the role."),
    "permissions-unchecked": _unchecked(_NO_LEAVE, "Ask for iam:SimulatePrincipalPolicy, or be sure of the role."),
    "pass-role": _error("create", "handing a role to a job needs iam:PassRole", "Ask for iam:PassRole on the role."),
    "bucket-missing": _error("create", "there is no such bucket", "Check the name."),
    "bucket-denied": _unchecked(_NO_LEAVE, "Ask for s3:ListBucket, or be sure of the bucket."),
    "bucket-region": _error("create", "a job reads and writes its own region", "Copy the data, or change --region."),
    "output-unchecked": _unchecked("the preflight never writes", "Be sure that the role may write there."),
    "image-missing": _error("start", "the image cannot be pulled", "Build and push it: docs/sagemaker.md."),
    "image-unchecked": _unchecked(_NO_LEAVE, "Ask for ecr:DescribeImages, or be sure of the image."),
    "image-old": _warning("start", "images before 2019 stumble over manifests and valid lists", "Take the tag :1."),
    "image-region": _error("create", "an image is pulled from the job's region", "Take the region's own registry."),
    "instance-cpu": _error("create", "the built-in runs on GPUs only", "Take ml.g4dn.xlarge or another GPU."),
    "instance-family": _error("create", "AWS lists P2, P3, G4dn and G5 for the built-in", "Take one of those."),
    "instance-cuda": _error("start", "none of MXNet's code runs on it", "Take a g4dn, g5, p3 or p4d machine."),
    "instance-untried": _note("code for 8.6 runs on 8.7 to 8.9 by NVIDIA's rule; it has not been tried"),
    "instance-no-driver": _error(
        "start", "MXNet for CUDA does not load without a GPU's driver", "Take a GPU machine, or an --image for CPUs."
    ),
    "instance-slow": _warning("result", "MXNet trains on the CPU, ten times slower or more", "Take a GPU machine."),
    "gpus-idle": _warning("", "our trainer works on one GPU unless --devices names more", "Give --devices gpu."),
    "gpus-missing": _error("start", "MXNet does not find them", "Name others, or give --devices gpu for all."),
    "machines-idle": _note("machines share each batch and exchange all gradients; with small shares they mostly wait"),
    "instance-unknown": _unchecked(
        "no facts about the type ship with this project", "Check its GPU and disk yourself."
    ),
    "quota": _error("create", "the account may not run so many", "Ask AWS for a higher quota, or take another type."),
    "quota-unchecked": _unchecked(_NO_LEAVE, "Ask for servicequotas:List*ServiceQuotas, or look in the console."),
    "warm-pool-quota": _warning("result", "the machine is not kept", "Ask AWS for a warm pool quota."),
    "tracking-version": _note("the container logs there as well"),
    "tracking-older": _warning(
        "result", "what a newer MLflow writes an older server may refuse", "The journal comes through S3 all the same."
    ),
    "tracking-missing": _warning(
        "result", "the container logs nowhere live", "Start it, or leave it out; the journal comes through S3."
    ),
    "tracking-unchecked": _unchecked(_NO_LEAVE, "Ask for sagemaker:DescribeMlflowTrackingServer."),
    "vpc-unchecked": _unchecked("networks are not looked at", "Be sure that the subnet reaches S3 (endpoint or NAT)."),
    "kms-unchecked": _unchecked("keys are not looked at", "Be sure that the role may use the key."),
}
_QUEUE: dict[str, Rule] = {
    "queue-missing": _error("create", "AWS Batch refuses the job", "Check --queue and --region, or make it."),
    "queue-type": _error("create", "only queues for SageMaker take training jobs", "Make one: docs/queue.md."),
    "queue-state": _error("start", "jobs would wait there without end", "Enable it, or correct what AWS names."),
    "queue-share": _error(
        "create", "a queue with a scheduling policy needs a share, others take none", "Give or drop --queue-share."
    ),
    "queue-capacity": _error("start", "the job would wait without end", "Raise the environment's maxCapacity."),
    "queue-room": _note("the others wait for their turn; waiting is not billed"),
    "queue-payload": _error(
        "create", "AWS Batch takes no larger request", "Give fewer settings or a shorter --output."
    ),
    "queue-unchecked": _unchecked(
        _NO_LEAVE, "Ask for batch:DescribeJobQueues and batch:DescribeServiceEnvironments, or be sure of the queue."
    ),
}
_CHANNELS: dict[str, Rule] = {
    "channel-empty": _error(
        "create", "AWS finds no objects there and refuses", "Check the prefix, or upload the data."
    ),
    "object-archived": _error(
        "download", "what is archived cannot be read", "Restore it, or copy it to another storage class."
    ),
    "key-double-slash": _error(
        "download", "SageMaker refuses to download keys with // in them", "Copy the objects to keys without it."
    ),
    "key-file-and-folder": _error("download", "no disk holds both under one name", "Rename one of the two."),
    "channel-unchecked": _unchecked(_NO_LEAVE, "Ask for s3:ListBucket and s3:GetObject, or be sure of the data."),
    "channel-overlap": _error(
        "result", "validation on training pictures measures memory, not skill", "Give them prefixes of their own."
    ),
    "validation-seen": _error(
        "result",
        "validation on training pictures measures memory, not skill",
        "Give it pictures that training does not have.",
    ),
    "output-in-input": _error(
        "download", "the next job would read this one's output as data", "Move --output elsewhere."
    ),
    "pipe-mode": _error("start", "lists of pictures are read from files", "Take File mode."),
    "distribution": _error("start", "the algorithm wants all data on each machine", "Take FullyReplicated."),
    "lst-count": _error("start", "the algorithm takes one list a channel", "Leave exactly one .lst there."),
    "lst-unlisted": _warning("", "they are downloaded, billed and not used", "List them, or move them away."),
    "samples": _error("result", "the schedule and the epochs' length follow it", "Give the data's own number."),
    "samples-about": _warning("result", "the file is too large to count, this is an estimate", "Check the number."),
    "picture-type": _warning("start", "they are no JPEG or PNG by their name", "Remove or convert them."),
    "folder-classes": _error("start", "one sub-folder for each class is needed", "Sort the pictures into folders."),
    "test-overlap": _error(
        "start",
        "our trainer stops when test pictures are among the training pictures",
        "Remove them, or go on with --allow-overlap; the run then says so.",
    ),
    "manifest-attributes": _error(
        "start", "the pipe delivers empty batches", "Name picture and label attribute, in this order."
    ),
    "manifest-wrapper": _error(
        "start", "a record without frame has no magic number", "Set RecordWrapperType RecordIO."
    ),
    "manifest-mode": _error("start", "a manifest is read through a pipe", "Set InputMode Pipe."),
    "manifest-format": _error("start", "each line is one JSON object with the attributes", "Correct the manifest."),
    "upload-pending": _note(),
    "data-unchecked": _unchecked("the object was not there or could not be read", "Look at it yourself."),
}
_BUDGET: dict[str, Rule] = {
    "estimate": _note(),
    "price-unknown": _unchecked("no price of the type is known", "Look it up before launching."),
    "max-cost": _error("training", "the job would be stopped long before it is done", "Raise it, or shorten the run."),
    "max-cost-tight": _warning("training", "the estimate is rough; the job may be stopped", "Raise it to be safe."),
    "max-runtime": _error(
        "training", "the job would be stopped long before it is done", "Raise it, or shorten the run."
    ),
    "max-runtime-tight": _warning("training", "the estimate is rough; the job may be stopped", "Raise it to be safe."),
    "disk": _error("end", "data, checkpoints and the model's archive do not fit", "Raise --volume-gb."),
    "disk-tight": _warning("end", "less than a fifth would be left", "Raise --volume-gb."),
}
RULES: dict[str, Rule] = {**rules.RULES, **_REQUEST, **_SETTINGS, **_ACCOUNT, **_QUEUE, **_CHANNELS, **_BUDGET}
