"""Labels as files give them, turned into numbers with class names."""

from typing import Any

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import IntArray

MAX_CLASSES = 100_000
"""More classes than this are taken for a mistake: labels that are hashes or identifiers."""


def numbered(
    values: list[Any], class_names: tuple[str, ...], where: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Labels as numbers with their class names.

    Strings become classes in alphabetical order; numbers without names are called by their digits.

    Raises:
        DataError: A label is missing, negative, or neither a whole number nor a string.
    """
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise DataError(
                f"{where}: row {row} has the label {value!r}, expected a whole number or a string"
            )
    if all(isinstance(value, str) for value in values):
        names = class_names or tuple(sorted(set(values)))
        number = {text: place for place, text in enumerate(names)}
        unknown = sorted(set(values) - set(number))
        if unknown:
            raise DataError(f"{where}: {unknown[0]!r} is not one of the class names")
        return np.array([number[value] for value in values], dtype=np.int64), names
    if any(isinstance(value, str) for value in values):
        raise DataError(f"{where}: some labels are numbers and some are strings")
    if min(values) < 0:
        row = next(row for row, value in enumerate(values) if value < 0)
        raise DataError(
            f"{where}: row {row} has the label {values[row]}, expected 0 or more; "
            "a split without labels cannot be used"
        )
    return np.array(values, dtype=np.int64), class_names or digits(max(values) + 1, where)


def digits(count: int, where: str) -> tuple[str, ...]:
    """Names for classes that have none: ``"0"``, ``"1"`` and so on.

    Raises:
        DataError: More than ``MAX_CLASSES``.
    """
    if count > MAX_CLASSES:
        raise DataError(
            f"{where}: the largest label is {count - 1}, expected less than {MAX_CLASSES}; "
            "number the classes from 0"
        )
    return tuple(str(number) for number in range(count))
