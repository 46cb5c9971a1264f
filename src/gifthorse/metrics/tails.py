"""Does the largest of many scores stand out from the others? Their own tail is the control group.

Excesses of independent scores over a high value are about exponential (Pickands 1975, "Statistical
Inference Using Extreme Order Statistics", with shape 0). With m excesses of mean s̄ seen, one more
exceeds r·s̄ with probability (1 + r/m)^−m: the scale is estimated, and that is accounted for.
"""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import ScoreArray, Threshold

LEAST_OTHERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TailNull:
    """The largest of ``count`` scores, given the tail of the others.

    Attributes:
        start: Where the tail begins: the median of the others.
        scale: Mean excess over it, above 0.
        excesses: How many excesses that mean was taken from, at least 4.
        count: How many scores were drawn in all.
        what: What the scores belong to, for the record.
    """

    start: float
    scale: float
    excesses: int
    count: int
    what: str

    @classmethod
    def of(cls, others: ScoreArray, *, what: str) -> "TailNull":
        """From the scores (n,) of all units but the one that is judged, n ≥ ``LEAST_OTHERS``.

        Raises:
            ValueError: Too few.
        """
        if len(others) < LEAST_OTHERS:
            raise ValueError(f"{len(others)} scores have no tail; at least {LEAST_OTHERS} have")
        start = float(np.median(others))
        above = others[others > start] - start
        scale = max(float(above.mean()) if len(above) else 0.0, 1e-9)
        return cls(
            start=start,
            scale=scale,
            excesses=max(len(above), 4),
            count=len(others) + 1,
            what=what,
        )

    @property
    def origin(self) -> str:
        """One sentence for the record."""
        return (
            f"the upper tail of the scores of {self.count - 1} {self.what}, taken as exponential; "
            "independence between them is assumed"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that the largest of ``count`` scores is at least this, in (0, 1]."""
        if statistic <= self.start:
            return 1.0
        one = 0.5 * (1 + (statistic - self.start) / self.scale / self.excesses) ** -self.excesses
        return float(max(-np.expm1(self.count * np.log1p(-one)), 1e-300))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The value that the largest exceeds with this probability."""
        one = -np.expm1(np.log1p(-false_alarm_rate) / self.count)
        ratio = self.excesses * ((2 * one) ** (-1 / self.excesses) - 1)
        return Threshold(
            value=self.start + self.scale * float(max(ratio, 0.0)),
            false_alarm_rate=false_alarm_rate,
            origin=self.origin,
        )
