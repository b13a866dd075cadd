"""What preflight found, and what the job would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainers.data.check.rules import Finding
from trainers.sagemaker.aws.objects import Objects
from trainers.sagemaker.cost import estimate, pricing
from trainers.sagemaker.preflight.data.facts import Facts


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the preflight found and learnt. ``price`` is None where it is not known, ``estimate`` without a size.

    ``num_reads`` counts S3 requests besides listings. ``kept_s``: how long the machine may be kept, billed, afterwards.
    ``objects`` is what was read of S3, ``account`` what was found of account and price, ``local_sizes`` how many
    pictures were found on this machine, by split: for the next job of a study.
    """

    findings: list[Finding]
    facts: dict[str, Facts]
    price: pricing.Price | None
    estimate: estimate.Estimate | None
    num_instances: int
    num_reads: int
    num_lists: int
    num_bytes_read: int
    kept_s: int = 0
    objects: Objects | None = field(default=None, repr=False, compare=False)
    account: list[Finding] = field(default_factory=list, repr=False)
    local_sizes: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def usd(self) -> float | None:
        """The estimated cost of the job."""
        return self._usd(self.estimate.total_s) if self.estimate is not None else None

    @property
    def usd_at_most(self) -> float | None:
        """The job's cost should the estimate be as far off as it may be."""
        return self._usd(self.estimate.total_s * estimate.SPREAD) if self.estimate is not None else None

    @property
    def kept_usd_at_most(self) -> float:
        """What a kept machine (``--keep-alive``) may cost on top, if no other job takes it over; 0 without a price."""
        return self._usd(self.kept_s) or 0.0

    def _usd(self, billed_s: float) -> float | None:
        return None if self.price is None else pricing.cost_usd(billed_s, self.num_instances, self.price.usd)
