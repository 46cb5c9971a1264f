"""What a broken contract is, and how a rule says so (our own; no method)."""

from typing import Any

import numpy as np


class BrokenContractError(AssertionError):
    """A plugin does not keep a rule; the text says which, and how."""


def require(kept: bool, rule: str) -> None:
    """Raise unless the rule is kept.

    Raises:
        BrokenContractError: It is not.
    """
    if not kept:
        raise BrokenContractError(rule)


def require_same(one: Any, other: Any, rule: str) -> None:
    """Raise unless two arrays are equal, element by element.

    Raises:
        BrokenContractError: They are not.
    """
    require(np.array_equal(np.asarray(one), np.asarray(other)), rule)
