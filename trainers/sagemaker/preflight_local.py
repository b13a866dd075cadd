"""The preflight of data that still lie on this machine: the data room's own check, in the preflight's words.

Enters: paths and config. Leaves: findings whose codes are those of ``python -m trainers.data check`` with ``local-``
before them (``docs/data.md`` lists them).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainers.config import Config
from trainers.errors import BadData
from trainers.sagemaker.findings import Finding, Severity, When, found

PREFIX = "local-"
_SEVERITY: dict[str, tuple[Severity, When]] = {
    "refused": ("error", "start"),
    "wrong": ("warning", "result"),
    "advice": ("note", ""),
}
# What is packed anew before it is sent may have a form that the built-in itself does not read.
_MENDED_BY_PACKING = ("not-for-the-job", "unknown-form")


def check(paths: Sequence[Path], config: Config) -> list[Finding]:
    """Findings about the pictures and labels under ``paths``, the one trained on first."""
    from trainers.data import check as data

    job = data.Job(
        num_classes=config.num_classes,
        image_shape=config.shape if config.image_shape is not None else None,
        resize=config.resize,
        mini_batch_size=config.mini_batch_size,
    )
    root = None if config.image_root is None else Path(config.image_root).expanduser()
    try:
        checked = data.check(list(paths), job, image_root=root)
    except BadData as error:
        return [found("data-unchecked", str(error))]
    same = [str(path) for number, path in enumerate(paths) if path.resolve() in [p.resolve() for p in paths[:number]]]
    findings = [found("channel-overlap", f"{path} is given for two channels") for path in same]
    for item in checked.findings:
        if item.rule.code in _MENDED_BY_PACKING:
            continue
        severity, when = _SEVERITY[item.rule.level]
        example = f", such as {item.examples[0]}" if item.examples else ""
        times = f" ({item.count:,} times{example})" if item.count > 1 or example else ""
        findings.append(
            Finding(
                PREFIX + item.rule.code,
                f"{item.file}: {item.rule.title}{times}",
                severity,
                when,
                item.rule.why.rstrip("."),
                item.mend,
            )
        )
    return findings
