"""Who supplied a sample: one name for all, a part of its path, a field of it, or a table."""

import csv
import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.provenance.samples import Sample

_MOST_PATTERNS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """How to name the contributor of a sample. At most one of the four is given.

    Attributes:
        name: The same for all.
        part: Which part of an id such as ``alice/stop/1.png``, counted from 0.
        field: A column, JSON field or archive member that holds the name; read by the reader.
        table: A CSV file of ids (or patterns such as ``web/*``) and names; the first match counts.

    Raises:
        DataError: More than one of them.
    """

    name: str | None = None
    part: int | None = None
    field: str | None = None
    table: Path | None = None

    def __post_init__(self) -> None:
        ways = (self.name, self.part, self.field, self.table)
        if sum(way is not None for way in ways) > 1:
            raise DataError("name contributors in one way: a name, a part, a field or a table")

    def apply(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same samples with their contributors.

        Raises:
            DataError: A sample has no contributor, or the table cannot be read.
        """
        if self.name is not None:
            return (sample._replace(contributor=self.name or "") for sample in samples)
        if self.part is not None:
            return self._by(samples, _of_path(self.part))
        if self.table is not None:
            return self._by(samples, _of_table(self.table))
        return iter(samples)

    @staticmethod
    def _by(samples: Iterable[Sample], find: Callable[[str], str]) -> Iterator[Sample]:
        for sample in samples:
            yield sample._replace(contributor=find(sample.id))


def _of_path(part: int) -> Callable[[str], str]:
    def find(identity: str) -> str:
        parts = identity.split("/")
        if not 0 <= part < len(parts) - 1:
            raise DataError(
                f"{identity!r} has {len(parts) - 1} folders in its path, none of number {part} "
                "to name its contributor"
            )
        return parts[part]

    return find


def _of_table(path: Path) -> Callable[[str], str]:
    exact: dict[str, str] = {}
    patterns: list[tuple[re.Pattern[str], str]] = []
    for pattern, name in _rows(path):
        if any(sign in pattern for sign in "*?["):
            patterns.append((re.compile(fnmatch.translate(pattern)), name))
        else:
            exact.setdefault(pattern, name)
    if len(patterns) > _MOST_PATTERNS:
        raise DataError(f"{path}: more than {_MOST_PATTERNS} patterns")

    def find(identity: str) -> str:
        if identity in exact:
            return exact[identity]
        for pattern, name in patterns:
            if pattern.match(identity):
                return name
        raise DataError(
            f"{path} names no contributor of {identity!r}; add a row, such as *,unknown"
        )

    return find


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if row and (len(row) != 2 or not row[0]):
                    raise DataError(f"{path}, row {number}: expected an id or pattern and a name")
                if row:
                    yield row[0], row[1]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the table of contributors {path}: {error}") from error
