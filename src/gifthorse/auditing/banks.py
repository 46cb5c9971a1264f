"""Reference banks: what detectors say of clean models, in a file, to judge others by.

A bank fits a model that lies within what its references span: the same architecture family, a
number of classes and a picture size between the smallest and the largest of theirs, the same
colours, and the same detector with the same options. Where none fits, nothing is guessed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifthorse.auditing.examine import spec_record
from gifthorse.auditing.subjects import Held, data_record
from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.record import SpecRecord, versions
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Progress, Subject, silent
from gifthorse.metrics.conformal import LEAST_REFERENCES, ConformalNull
from gifthorse.models.classifier import ImageClassifier

SCHEMA = "gifthorse.bank/1"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(_Frozen):
    """One clean model: its digest, the pictures it was examined with, and what it is."""

    model: str
    trusted: str
    architecture: str
    classes: int = Field(ge=2)
    channels: int = Field(ge=1)
    side: int = Field(ge=1)


class Scores(_Frozen):
    """A detector with all its options, and its statistic for every reference, in their order."""

    detector: SpecRecord
    statistics: tuple[float, ...]


class Bank(_Frozen):
    """A reference bank.

    Attributes:
        schema_name: Always ``gifthorse.bank/1``.
        title: For people.
        samples: Trusted pictures that every reference was examined with, at most.
        references: The clean models.
        scores: What detectors said of them.
        versions: Of what can change a statistic.
        digest: ``sha256:…`` of everything else, as canonical JSON.
    """

    schema_name: Literal["gifthorse.bank/1"] = "gifthorse.bank/1"
    title: str
    samples: int = Field(ge=2)
    references: tuple[Reference, ...] = Field(min_length=LEAST_REFERENCES)
    scores: tuple[Scores, ...] = Field(min_length=1)
    versions: dict[str, str]
    digest: str = ""

    def sealed(self) -> "Bank":
        """The same with its digest."""
        return self.model_copy(update={"digest": self.content_digest()})

    def content_digest(self) -> str:
        """Digest of all fields but the digest."""
        content = self.model_dump(mode="json", exclude={"digest"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def misfit(self, classifier: ImageClassifier) -> str:
        """Why a model is not one of a kind with the references; empty if it is."""
        mine = reference_of(classifier, trusted="")
        kinds = sorted({one.architecture for one in self.references})
        if mine.architecture not in kinds:
            return f"it holds {', '.join(kinds)} and the model is {mine.architecture}"
        for what in ("classes", "side", "channels"):
            known = [getattr(one, what) for one in self.references]
            value = getattr(mine, what)
            between = min(known) <= value <= max(known)
            if not (value in known if what == "channels" else between):
                span = f"{min(known)} to {max(known)}"
                return f"its models have {span} {_WORDS[what]} and this one {value}"
        return ""

    def null(self, spec: SpecRecord) -> ConformalNull | None:
        """The null of a detector with exactly these options, or None."""
        for one in self.scores:
            if one.detector == spec:
                return ConformalNull.of(np.array(one.statistics), self.digest)
        return None


_WORDS = {"classes": "classes", "side": "pixels a side", "channels": "colour channels"}


def reference_of(classifier: ImageClassifier, trusted: str) -> Reference:
    """What a bank remembers of a model."""
    channels, height, width = classifier.input_shape
    config = getattr(classifier.module, "config", None)
    family = getattr(config, "model_type", None) or type(classifier.module).__name__
    return Reference(
        model=classifier.digest(),
        trusted=trusted,
        architecture=str(family),
        classes=classifier.n_classes,
        channels=channels,
        side=max(height, width),
    )


def build_bank(
    held: Iterable[Held],
    detectors: Sequence[Any],
    *,
    title: str,
    samples: int,
    seed: int = 0,
    told: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> Bank:
    """Examine clean models and keep what the detectors say of them.

    Raises:
        DataError: Fewer than ``LEAST_REFERENCES`` models, one without trusted pictures, one that
            comes twice, or one that a detector cannot examine.
    """
    references: list[Reference] = []
    statistics: list[list[float]] = [[] for _ in detectors]
    for one in held:
        if one.trusted is None:
            raise DataError(f"{one.classifier.name}: calibration needs trusted pictures")
        reference = reference_of(one.classifier, data_record(one.trusted).digest)
        if any(reference.model == known.model for known in references):
            raise DataError(f"{one.classifier.name} is the same model as another one")
        subject = Subject(model=one.classifier, trusted=one.trusted)
        for place, detector in enumerate(detectors):
            name = spec_record("detectors", detector).name
            # As an audit would draw it, but for every reference anew.
            rng = child_rng(seed, "detector", name, len(references))
            try:
                seen = detector.inspect(
                    subject.granting(detector.needs), rng=rng, progress=progress
                )
            except NotApplicableError as error:
                raise DataError(f"{name} cannot examine {one.classifier.name}: {error}") from error
            statistics[place].append(round(float(seen.statistic), 6))
        references.append(reference)
        told(one.classifier.name)
    if len(references) < LEAST_REFERENCES:
        raise DataError(
            f"a bank needs at least {LEAST_REFERENCES} clean models, got {len(references)}"
        )
    scores = [
        Scores(detector=spec_record("detectors", detector), statistics=tuple(found))
        for detector, found in zip(detectors, statistics, strict=True)
    ]
    return Bank(
        title=title,
        samples=samples,
        references=tuple(references),
        scores=tuple(scores),
        versions=versions(),
    ).sealed()


def read_bank(path: Path) -> Bank:
    """A bank from its file.

    Raises:
        DataError: Missing, no bank, of another version, or changed since it was made.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the bank {path}: {error}") from error
    return _parsed(text, str(path))


def _parsed(text: str, name: str) -> Bank:
    try:
        bank = Bank.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{name} is no reference bank: {place}: {first['msg']}") from error
    if bank.digest != bank.content_digest():
        raise DataError(f"{name} was changed since it was made: its digest does not fit")
    if any(len(one.statistics) != len(bank.references) for one in bank.scores):
        raise DataError(f"{name} is no reference bank: not one statistic for every model")
    return bank


def shipped_banks() -> tuple[Bank, ...]:
    """The banks that come with gifthorse."""
    folder = files("gifthorse.auditing") / "shipped_banks"
    found = sorted((one for one in folder.iterdir() if one.name.endswith(".json")), key=str)
    return tuple(_parsed(one.read_text(encoding="utf-8"), one.name) for one in found)


def fitting(banks: Iterable[Bank], held: Held) -> tuple[tuple[Bank, ...], tuple[str, ...]]:
    """The banks that fit a model with its trusted pictures, and why the others do not."""
    fit, reasons = [], []
    for bank in banks:
        why = bank.misfit(held.classifier)
        if not why and (held.trusted is None or len(held.trusted) < 2):
            why = "there are no trusted pictures"
        if why:
            reasons.append(f"the bank {bank.title!r} does not fit: {why}")
        else:
            fit.append(bank)
    return tuple(fit), tuple(reasons)
