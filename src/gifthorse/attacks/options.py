"""Checks that the options of several attacks share (our own; no method)."""

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData


def require_positive(**values: float) -> None:
    """Every named number must be above zero.

    Raises:
        ValueError: One is not.
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def require_share(**values: float) -> None:
    """Every named number must be in (0, 1).

    Raises:
        ValueError: One is not.
    """
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), got {value}")


def require_class(data: ImageData, target: int) -> None:
    """The target must be a class of the data.

    Raises:
        DataError: It is not.
    """
    count = len(data.class_names)
    if not 0 <= target < count:
        raise DataError(f"target {target} is no class of {data.name}: it has 0 … {count - 1}")
