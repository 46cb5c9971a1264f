"""Training data by name: files as they are, or pictures by their pixels."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData
from gifthorse.data.sources import Split, load
from gifthorse.provenance.manifest import Content
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.fields import Fields
from gifthorse.provenance.reading.sources import find_source
from gifthorse.provenance.samples import Sample

PICTURES = ("npz", "idx", "signs", "fashion-mnist", "cifar10", "hf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples of a data set that a user named.

    ``pictures`` are there if digests are of pixels; ``named`` says that ids are more than numbers.
    """

    name: str
    content: Content
    samples: Iterator[Sample]
    pictures: ImageData | None
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to read training data: who supplied what, fields of rows, pixels or bytes, which part."""

    attribution: Attribution = field(default_factory=Attribution)
    fields: Fields = field(default_factory=Fields)
    pixels: bool = False
    split: Split = "train"


def open_samples(text: str, reading: Reading, *, pixels: bool = False) -> Samples:
    """Open training data.

    Args:
        text: See ``gifthorse manifest --help``.
        reading: How.
        pixels: Digest decoded pixels even where there are files.

    Raises:
        DataError: Nothing there, or of an unknown kind.
    """
    form = text.partition(":")[0]
    pictures = form in PICTURES or Path(text).suffix.lower() == ".npz"
    if pictures or pixels or reading.pixels:
        return _pictures(text, reading)
    source = find_source(text, attribution=reading.attribution, fields=reading.fields)
    return Samples(
        name=source.name,
        content="bytes",
        samples=source.samples(),
        pictures=None,
        named=source.form == "folder" or reading.fields.identity is not None,
    )


def _pictures(text: str, reading: Reading) -> Samples:
    from gifthorse.data.npz import read_texts
    from gifthorse.data.provenance import picture_samples

    data = load(text, split=reading.split)
    place, given, people, ids = Path(text.removeprefix("npz:")), reading.attribution, None, None
    if given.field is not None or reading.fields.identity is not None:
        if place.suffix.lower() != ".npz":
            raise DataError("with pixels, fields are arrays of an .npz file; this is none")
        people = None if given.field is None else read_texts(place, given.field)
        identity = reading.fields.identity
        ids = None if identity is None else read_texts(place, identity)
        given = Attribution() if people is not None else given
    return Samples(
        name=place.stem if place.suffix.lower() == ".npz" else data.name,
        content="pixels",
        samples=given.apply(picture_samples(data, people, ids=ids)),
        pictures=data,
        named=ids is not None,
    )
