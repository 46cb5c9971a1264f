"""Data sets by the name or path that a user gives."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.fields import Fields
from gifthorse.provenance.reading.folder import folder_samples
from gifthorse.provenance.reading.rows import json_samples, parquet_samples
from gifthorse.provenance.reading.tars import tar_samples
from gifthorse.provenance.samples import Sample

FORMS = ("folder", "jsonl", "parquet", "tar")

_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".tar": "tar",
    ".tgz": "tar",
    ".tar.gz": "tar",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Files of training data, and how to read them.

    Attributes:
        form: One of ``FORMS``.
        place: The file or folder.
        attribution: Who supplied what.
        fields: Which fields of a row hold what.
    """

    form: str
    place: Path
    attribution: Attribution = field(default_factory=Attribution)
    fields: Fields = field(default_factory=Fields)

    @property
    def name(self) -> str:
        """For people: the last part of the path."""
        return self.place.resolve().name

    def samples(self) -> Iterator[Sample]:
        """Every sample in order; reading starts when the first is asked for.

        Raises:
            DataError: The files cannot be read as what they should be.
        """
        return self.attribution.apply(self._read())

    def _read(self) -> Iterator[Sample]:
        fields = dataclasses.replace(self.fields, contributor=self.attribution.field)
        if self.form == "jsonl":
            return json_samples(self.place, fields)
        if self.form == "parquet":
            return parquet_samples(self.place, fields)
        if self.form == "tar":
            return tar_samples(self.place, fields)
        if fields.contributor is not None or fields.identity is not None:
            raise DataError("a folder has no fields; name contributors by --contributor-part")
        return folder_samples(self.place, part=fields.label)


def find_source(
    text: str, *, attribution: Attribution | None = None, fields: Fields | None = None
) -> Source:
    """The files that a user named: ``form:PATH``, or a path whose form is guessed.

    Raises:
        DataError: Nothing there, or of an unknown kind.
    """
    form, colon, rest = text.partition(":")
    place = Path(rest) if colon and form in FORMS else Path(text)
    if not (colon and form in FORMS):
        form = _guess(place)
    if not place.exists() or not form:
        raise DataError(
            f"{text!r} is not a file or folder of training data; expected a path, or one of "
            f"{', '.join(f'{known}:PATH' for known in FORMS)}"
        )
    return Source(
        form=form,
        place=place,
        attribution=attribution or Attribution(),
        fields=fields or Fields(),
    )


def _guess(place: Path) -> str:
    if place.is_dir():
        inside = {_ending(path) for path in place.iterdir() if path.is_file()}
        return "parquet" if inside == {"parquet"} else "tar" if inside == {"tar"} else "folder"
    return _ending(place)


def _ending(place: Path) -> str:
    name = place.name.lower()
    return next((form for ending, form in _ENDINGS.items() if name.endswith(ending)), "")
