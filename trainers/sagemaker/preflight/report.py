"""What preflight found, and what the job would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainers.data.check.rules import Finding
from trainers.sagemaker.aws.objects import Objects
from trainers.sagemaker.cost import estimate, pricing
from trainers.sagemaker.preflight.data.facts import Facts
from trainers.sagemaker.preflight.past import Past


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the preflight found and learnt. ``prices`` lacks machines without one, ``estimates`` all without a size.

    Where several machines will do, ``price``, ``estimate`` and ``usd`` are those of the one where the job costs most.
    ``num_reads`` counts S3 requests besides listings. ``kept_s``: how long the machine may be kept, billed, afterwards.
    ``objects`` is what was read of S3, ``account`` what was found of account and price, ``local_sizes`` how many
    pictures were found on this machine, by split, ``past`` the finished jobs: for the next job of a study.
    """

    findings: list[Finding]
    facts: dict[str, Facts]
    prices: Mapping[str, pricing.Price]
    estimates: Mapping[str, estimate.Estimate]
    instance_types: tuple[str, ...]
    num_instances: int
    num_reads: int
    num_lists: int
    num_bytes_read: int
    kept_s: int = 0
    objects: Objects | None = field(default=None, repr=False, compare=False)
    account: list[Finding] = field(default_factory=list, repr=False)
    local_sizes: Mapping[str, int] = field(default_factory=dict, repr=False)
    past: Past | None = field(default=None, repr=False, compare=False)

    @property
    def price(self) -> pricing.Price | None:
        """An hour's price; None where one of the machines has none."""
        return self.prices.get(self._costliest) if self._is_priced else None

    @property
    def estimate(self) -> estimate.Estimate | None:
        """The job's time; None without a size."""
        return self.estimates.get(self._costliest)

    @property
    def _is_priced(self) -> bool:
        return all(kind in self.prices for kind in self.instance_types)

    @property
    def _costliest(self) -> str:
        if not self._is_priced or not self.instance_types:
            return next(iter(self.instance_types), "")
        return max(self.instance_types, key=self._usd_on)

    def _usd_on(self, kind: str) -> float:
        guess = self.estimates.get(kind)
        billed_s = 3600.0 if guess is None else guess.total_s
        return pricing.cost_usd(billed_s, self.num_instances, self.prices[kind].usd)

    @property
    def usd(self) -> float | None:
        """The estimated cost of the job."""
        return self._usd(self.estimate.total_s) if self.estimate is not None else None

    @property
    def usd_by_type(self) -> dict[str, float]:
        """The estimated cost on each machine, where several will do; empty without prices and a size."""
        if len(self.instance_types) < 2 or not self._is_priced or not self.estimates:
            return {}
        return {kind: self._usd_on(kind) for kind in self.instance_types}

    @property
    def usd_at_most(self) -> float | None:
        """The job's cost should the estimate be as far off as it may be."""
        return self._usd(self.estimate.total_s * self.estimate.spread) if self.estimate is not None else None

    @property
    def kept_usd_at_most(self) -> float:
        """What a kept machine (``--keep-alive``) may cost on top, if no other job takes it over; 0 without a price."""
        return self._usd(self.kept_s) or 0.0

    def _usd(self, billed_s: float) -> float | None:
        return None if self.price is None else pricing.cost_usd(billed_s, self.num_instances, self.price.usd)
