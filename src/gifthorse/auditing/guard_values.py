"""What guards of pictures and of texts share: the answer, and the threshold of trusted samples."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gifthorse.core.errors import DataError
from gifthorse.core.types import ScoreArray, Threshold
from gifthorse.detectors.inputs.calibrated import rank_of

ACTIONS = ("flag", "refuse")


class Guarded(NamedTuple):
    """What a guarded model answers.

    Attributes:
        logits: (n, classes); of a refused input every entry is NaN.
        flagged: Which inputs are above the threshold, (n,).
        scores: (n,), higher is worse.
    """

    logits: Tensor
    flagged: Tensor
    scores: Tensor


def threshold_of(normal: ScoreArray, false_alarm_rate: float, what: str) -> Threshold:
    """The order statistic of trusted samples' scores that clean inputs exceed at this rate.

    Args:
        normal: Scores of trusted samples, shape (m,).
        false_alarm_rate: In (0, 0.5).
        what: Names the samples in messages: pictures or texts.

    Raises:
        DataError: The rate is out of range, or too small to be shown by so few samples.
    """
    if not 0 < false_alarm_rate < 0.5:
        raise DataError(f"the false-alarm rate must be in (0, 0.5), got {false_alarm_rate}")
    if false_alarm_rate * (len(normal) + 1) < 1:
        raise DataError(
            f"{len(normal)} trusted {what} cannot show a false-alarm rate of "
            f"{false_alarm_rate:g}; give at least {int(np.ceil(1 / false_alarm_rate)) - 1}"
        )
    rank = rank_of(false_alarm_rate, len(normal))
    return Threshold(
        value=float(np.sort(normal)[-rank]),
        false_alarm_rate=rank / (len(normal) + 1),
        origin=(
            f"exact: score number {rank} from above of {len(normal)} trusted {what}; assumes "
            "that clean inputs are distributed like them"
        ),
    )
