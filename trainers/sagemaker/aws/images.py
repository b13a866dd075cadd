"""Which container image a job starts from: AWS's registry of the built-in algorithm, or our own in the user's account.

The account numbers are AWS's published ones (https://docs.aws.amazon.com/sagemaker/latest/dg-ecr-paths/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainers.errors import BadInput

OWN_REPOSITORY = "image-classification-tracking"
_BUILTIN_ACCOUNTS = {
    "af-south-1": "455444449433",
    "ap-east-1": "286214385809",
    "ap-northeast-1": "501404015308",
    "ap-northeast-2": "306986355934",
    "ap-northeast-3": "867004704886",
    "ap-south-1": "991648021394",
    "ap-south-2": "628508329040",
    "ap-southeast-1": "475088953585",
    "ap-southeast-2": "544295431143",
    "ap-southeast-3": "951798379941",
    "ap-southeast-4": "106583098589",
    "ca-central-1": "469771592824",
    "ca-west-1": "190319476487",
    "cn-north-1": "390948362332",
    "cn-northwest-1": "387376663083",
    "eu-central-1": "813361260812",
    "eu-central-2": "680994064768",
    "eu-north-1": "669576153137",
    "eu-south-1": "257386234256",
    "eu-south-2": "104374241257",
    "eu-west-1": "685385470294",
    "eu-west-2": "644912444149",
    "eu-west-3": "749696950732",
    "il-central-1": "898809789911",
    "me-central-1": "272398656194",
    "me-south-1": "249704162688",
    "sa-east-1": "855470959533",
    "us-east-1": "811284229777",
    "us-east-2": "825641698319",
    "us-gov-east-1": "237065988967",
    "us-gov-west-1": "226302683700",
    "us-west-1": "632365934929",
    "us-west-2": "433757028032",
}


_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+/([^:@]+)(?::([^@]+))?(?:@(sha256:[0-9a-f]{64}))?")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Where in ECR an image is; ``tag`` or ``digest`` names it."""

    account: str
    region: str
    repository: str
    tag: str
    digest: str | None


def registry(image: str) -> Registry | None:
    """The parts of an ECR image's URI; None for any other."""
    match = _ECR.fullmatch(image)
    if match is None:
        return None
    return Registry(account=match[1], region=match[2], repository=match[3], tag=match[4] or "latest", digest=match[5])


def builtin_image(region: str) -> str:
    """The built-in image classification's image, stable tag. Raises BadInput where AWS publishes none."""
    account = _BUILTIN_ACCOUNTS.get(region)
    if account is None:
        raise BadInput(
            f"--region {region}: AWS publishes no image of the built-in image classification there; take one of"
            f" {', '.join(sorted(_BUILTIN_ACCOUNTS))}, or --on sagemaker with an image of your own."
        )
    return f"{account}.dkr.ecr.{region}.{_domain(region)}/image-classification:1"


def is_builtin(image: str) -> bool:
    """Whether an image is AWS's built-in image classification, whatever its tag."""
    parts = registry(image)
    return (
        parts is not None and parts.account in _BUILTIN_ACCOUNTS.values() and parts.repository == "image-classification"
    )


def own_image(account: str, region: str) -> str:
    """Where ``docs/sagemaker.md`` has the user push our image: the account's own registry."""
    return f"{account}.dkr.ecr.{region}.{_domain(region)}/{OWN_REPOSITORY}:latest"


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
