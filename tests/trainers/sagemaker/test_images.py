"""Image names, and that the Dockerfile copies what is there."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT
from trainers.sagemaker.aws import images


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        (
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:2",
            images.Registry(account="123456789012", region="us-east-1", repository="mine", tag="2", digest=None),
        ),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/a/b",
            images.Registry(account="123456789012", region="cn-north-1", repository="a/b", tag="latest", digest=None),
        ),
        (
            f"123456789012.dkr.ecr.us-east-1.amazonaws.com/mine@sha256:{'0f' * 32}",
            images.Registry(
                account="123456789012",
                region="us-east-1",
                repository="mine",
                tag="latest",
                digest=f"sha256:{'0f' * 32}",
            ),
        ),
        ("docker.io/library/python:3.11", None),
        ("", None),
    ],
)
def test_registry_names_are_taken_apart(image: str, parts: images.Registry | None) -> None:
    assert images.registry(image) == parts


def test_the_algorithm_is_known_by_its_registry_whatever_the_tag() -> None:
    for region in ("us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1"):
        image = images.builtin_image(region)
        assert image.endswith("/image-classification:1") and images.is_builtin(image)
        assert images.is_builtin(image.replace(":1", ":latest"))
    assert not images.is_builtin("123456789012.dkr.ecr.us-east-1.amazonaws.com/image-classification:1")
    assert not images.is_builtin("811284229777.dkr.ecr.us-east-1.amazonaws.com/object-detection:1")


def test_the_dockerfile_copies_what_is_there_and_ignores_the_rest() -> None:
    text = (ROOT / "docs" / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    allowed = (ROOT / "docs" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(allowed)
