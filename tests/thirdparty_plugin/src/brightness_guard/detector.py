"""Suspects the samples of each class that are unlike its others in brightness (our own example).

It shows what a plugin needs: a frozen dataclass, three class variables, and two methods. It finds
bright stickers and little else.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, ImageData, Need, Null, Progress, Subject, Threshold, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class ChebyshevNull:
    """Of any distribution, at most 1 / s² of the samples lie more than s deviations off."""

    count: int
    origin: str = "Chebyshev's inequality over all samples; assumes nothing, and is very careful"

    def p_value(self, statistic: float) -> float:
        """Bound on the chance that one of ``count`` clean samples lies so far off."""
        return float(min(1.0, self.count / max(statistic, 1.0) ** 2))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """Where that bound reaches the rate."""
        return Threshold(
            value=float(np.sqrt(self.count / false_alarm_rate)),
            false_alarm_rate=false_alarm_rate,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Brightness:
    """Scores each sample by the brightness of its brightest block, against its class.

    Attributes:
        block: Side of a block in pixels, 1 to 64.
    """

    paper: ClassVar[str] = "our own: an example of a plugin, not a method"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE

    block: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.block <= 64:
            raise ValueError(f"block must be in 1 … 64, got {self.block}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Look at the samples; nothing is drawn at random.

        Raises:
            NotApplicableError: There are no pictures.
        """
        del rng
        data = subject.suspect
        if not isinstance(data, ImageData):
            raise NotApplicableError("this method looks at suspect pictures, and was given none")
        levels = np.empty(len(data))
        for start in range(0, len(data), 256):
            rows = np.arange(start, min(start + 256, len(data)))
            levels[rows] = self._brightest(data.batch(rows).mean(axis=1))
            progress(int(rows[-1]) + 1, len(data), "measuring")
        scores = np.zeros(len(data))
        for label in np.unique(data.labels):
            own = data.labels == label
            middle = np.median(levels[own])
            spread = 1.4826 * np.median(np.abs(levels[own] - middle)) + 1e-6
            scores[own] = np.abs(levels[own] - middle) / spread
        worst = np.argsort(-scores)[: max(1, len(data) // 100)]
        return Evidence(
            unit=self.unit,
            scores=scores,
            statistic=float(scores.max()),
            suspects=worst.astype(np.int64),
        )

    def null(self, evidence: Evidence) -> Null:
        """Chebyshev's bound."""
        return ChebyshevNull(count=len(evidence.scores))

    def _brightest(self, grey: np.ndarray) -> np.ndarray:
        """The mean of the brightest block of each picture (n, h, w)."""
        rows, columns = (side // self.block * self.block for side in grey.shape[1:])
        if not rows or not columns:
            return np.asarray(grey.mean(axis=(1, 2)))
        cut = grey[:, grey.shape[1] - rows :, grey.shape[2] - columns :]
        shape = (len(grey), rows // self.block, self.block, columns // self.block, self.block)
        return np.asarray(cut.reshape(shape).mean(axis=(2, 4)).max(axis=(1, 2)))
