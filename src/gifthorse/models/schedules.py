"""The learning rate over a training run, the same for everything that trains here."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(
    optimizer: Optimizer, *, learning_rate: float, steps: int, rise: float = 0.2
) -> OneCycleLR:
    """One cycle (Smith 2018): up to the rate during the share ``rise`` of the steps, then down.

    Args:
        optimizer: Whose learning rate follows.
        learning_rate: The highest.
        steps: How often it will step, at least 1.
        rise: Share of the steps, in (0, 1); at least two steps, since a rise of none is a division
            by zero.
    """
    total = steps + 1
    return OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=total, pct_start=max(rise, 2 / total)
    )
