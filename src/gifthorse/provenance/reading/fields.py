"""Which fields of a row hold its id, label and contributor, and what they say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gifthorse.core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Names of fields; None means the usual name, or a running number for the id.

    Attributes:
        label: Usually ``label``. In a folder, the number of the part of the path that is the label.
        identity: Of the id.
        contributor: Of the name of the contributor.
    """

    label: str | None = None
    identity: str | None = None
    contributor: str | None = None

    def of(self, row: Mapping[str, Any], number: str, where: str) -> tuple[str, str, str]:
        """Id, contributor and label of a row; ``number`` is its id if no field holds one.

        Raises:
            DataError: A field that the user named is missing, or is no text or number.
        """
        identity = number if self.identity is None else text(row, self.identity, where)
        contributor = "" if self.contributor is None else text(row, self.contributor, where)
        if self.label is None:
            return identity, contributor, text(row, "label", where) if "label" in row else ""
        return identity, contributor, text(row, self.label, where)

    @property
    def used(self) -> frozenset[str]:
        """The fields that are not content."""
        return frozenset(
            name for name in (self.label or "label", self.identity, self.contributor) if name
        )


def text(row: Mapping[str, Any], name: str, where: str) -> str:
    """A field as text.

    Raises:
        DataError: It is missing, or neither text nor a number.
    """
    value = row.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    found = "nothing" if value is None else type(value).__name__
    raise DataError(f"{where}: expected text or a number in {name!r}, got {found}")
