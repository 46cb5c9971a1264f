"""What went into a model: an in-toto Statement with an SLSA provenance v1 predicate.

The subject is the files of the model; the resolved dependencies are the data sets with the rows
that were *consumed*, the code revision and the parent models. Whether the trainer told the truth
is not proved by it; who claims it is, once it is signed.
"""

import base64
import binascii
import datetime as dt
import subprocess
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gifthorse.core.errors import DataError, RecordError
from gifthorse.core.record import versions
from gifthorse.core.types import BoolArray
from gifthorse.provenance.envelope import make_statement
from gifthorse.provenance.manifest import Content, Hash, Part, data_set_tree
from gifthorse.provenance.places import SIGNATURE_NAME
from gifthorse.provenance.reading.folder import file_digest

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:gifthorse:training:1"
ROOT_DIGEST = "rfc6962Sha256"
MODEL_DIGEST = "gifthorseModel"
FILE_NAME = "provenance.json"
"""What the statement is called in a model directory."""

WEIGHTS = frozenset((".safetensors", ".bin", ".gguf", ".pt", ".pth", ".onnx", ".h5", ".keras"))
Parameter = str | int | float | bool | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConsumedPart(Part):
    """Which samples of a contributor were consumed.

    ``rows`` is null if all were; else a bitmap of their rows, most significant bit first,
    deflated, in base64.
    """

    count: int = Field(ge=0)
    rows: str | None = None

    @model_validator(mode="after")
    def _counts(self) -> "ConsumedPart":
        bits = self.bits()
        found = self.size if bits is None else int.from_bytes(bits, "big").bit_count()
        if found != self.count:
            raise ValueError("the rows are not as many as their count")
        return self

    def bits(self) -> bytes | None:
        """The bitmap, inflated; None stands for all rows.

        Raises:
            ValueError: It is broken, or longer or shorter than the samples.
        """
        if self.rows is None:
            return None
        length = (self.size + 7) // 8
        try:
            packed = base64.b64decode(self.rows, validate=True)
            bits = zlib.decompressobj().decompress(packed, length + 1)
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"the bitmap of rows is broken: {error}") from error
        if len(bits) != length or (self.size % 8 and bits[-1] & (0xFF >> self.size % 8)):
            raise ValueError("the bitmap of rows has the wrong length")
        return bits

    def among(self, rows: Iterable[int]) -> list[int]:
        """Those of these rows that were consumed."""
        bits = self.bits()
        return [
            row
            for row in rows
            if row < self.size and (bits is None or bits[row // 8] & (0x80 >> row % 8))
        ]

    @classmethod
    def of(cls, part: Part, mask: BoolArray) -> "ConsumedPart":
        """From a mask of shape (size,)."""
        rows = None
        if not mask.all():
            rows = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
        return cls(name=part.name, size=part.size, root=part.root, count=int(mask.sum()), rows=rows)


class Consumed(_Frozen):
    """What was consumed of one data set.

    ``checked`` says what the recorder compared with the manifest: the ``content`` of every sample
    that it saw, or its ``index`` alone. ``presentations`` counts repetitions.
    """

    name: str
    root: Hash
    content: Content
    checked: Literal["content", "index"]
    presentations: int = Field(ge=0)
    contributors: tuple[ConsumedPart, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> "Consumed":
        if data_set_tree(self.contributors).root().hex() != self.root:
            raise ValueError("the root of the data set is not that of its contributors")
        return self

    @property
    def count(self) -> int:
        """How many different samples."""
        return sum(part.count for part in self.contributors)

    @property
    def size(self) -> int:
        """How many samples the data set has."""
        return sum(part.size for part in self.contributors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A file, or a whole, with its digest in hexadecimal."""

    name: str
    digest: str

    @property
    def is_weights(self) -> bool:
        """Whether it tells one model from another, as configurations do not."""
        return self.name == "model" or Path(self.name).suffix.lower() in WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run.

    Attributes:
        id: Unique.
        name: What people call the model.
        started, finished: ISO 8601.
        outputs: Files of the model, and perhaps the model as records call it.
        consumed: The data.
        parents: Files of the models that training started from.
        parameters: Hyper-parameters.
        revision: Of the code: repository, commit, and whether there were changes beside it.
    """

    id: str
    name: str
    started: str
    finished: str
    outputs: tuple[Named, ...]
    consumed: tuple[Consumed, ...]
    parents: tuple[Named, ...] = ()
    parameters: Mapping[str, Parameter]
    revision: Mapping[str, str | bool] | None = None

    def statement(self) -> dict[str, Any]:
        """The in-toto Statement."""
        return make_statement(
            subject=[
                {"name": out.name, "digest": {_algorithm(out): out.digest}} for out in self.outputs
            ],
            predicate_type=PREDICATE_TYPE,
            predicate={
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"hyperParameters": dict(self.parameters)},
                    "internalParameters": {"model": self.name},
                    "resolvedDependencies": [
                        *(_data_set(data) for data in self.consumed),
                        *([_code(self.revision)] if self.revision else []),
                        *(_parent(parent) for parent in self.parents),
                    ],
                },
                "runDetails": {
                    "builder": {"id": "urn:gifthorse:recorder", "version": versions()},
                    "metadata": {
                        "invocationId": self.id,
                        "startedOn": self.started,
                        "finishedOn": self.finished,
                    },
                },
            },
        )


def run_of(statement: Mapping[str, Any]) -> Run:
    """The run that a statement is about.

    Raises:
        RecordError: It is no statement of a training run of ours.
    """
    try:
        definition = statement["predicate"]["buildDefinition"]
        details = statement["predicate"]["runDetails"]["metadata"]
        if (statement["predicateType"], definition["buildType"]) != (PREDICATE_TYPE, BUILD_TYPE):
            raise RecordError(
                f"a statement of type {statement['predicateType']!r}; expected a training run: "
                f"{PREDICATE_TYPE} with buildType {BUILD_TYPE}"
            )
        found: dict[str, list[Any]] = {"data set": [], "code": [], "parent model": []}
        for entry in definition.get("resolvedDependencies", []):
            found[entry["annotations"]["role"]].append(entry)
        code = found["code"][0] if found["code"] else None
        run = Run(
            id=str(details["invocationId"]),
            name=str(definition["internalParameters"]["model"]),
            started=str(details["startedOn"]),
            finished=str(details["finishedOn"]),
            outputs=tuple(_named(entry) for entry in statement["subject"]),
            consumed=tuple(_consumed(entry) for entry in found["data set"]),
            parents=tuple(_named(entry) for entry in found["parent model"]),
            parameters=dict(definition["externalParameters"]["hyperParameters"]),
            revision=_revision(code),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RecordError(f"the statement of a training run is broken: {reason}") from error
    if not run.outputs:
        raise RecordError("the statement of a training run names no model")
    return run


def files_of(model: Path) -> tuple[Named, ...]:
    """The files of a model directory (or one file) with their SHA-256; signatures are left out.

    Raises:
        DataError: There are no files of weights.
    """
    if model.is_file():
        return (Named(name=model.name, digest=file_digest(model).hex()),)
    paths = sorted(path for path in model.rglob("*") if path.is_file())
    skipped = (FILE_NAME, SIGNATURE_NAME, "model.sig")
    found = tuple(
        Named(name=path.relative_to(model).as_posix(), digest=file_digest(path).hex())
        for path in paths
        if path.name not in skipped and not path.name.startswith(".")
    )
    if not any(named.is_weights for named in found):
        raise DataError(
            f"{model} holds no file of weights; expected one of {', '.join(sorted(WEIGHTS))}"
        )
    return found


def statement_place(model: Path) -> Path:
    """Where the statement about a model lies: in its directory, or beside its file."""
    return model / FILE_NAME if model.is_dir() else model.with_name(f"{model.name}.{FILE_NAME}")


def code_revision(folder: Path) -> dict[str, str | bool] | None:
    """The git commit of a folder, and whether files differ from it; None outside a repository."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603 - fixed words, no shell
                ["git", "-C", str(folder), *words],  # noqa: S607 - whichever git the user has
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {
        "uri": git("remote", "get-url", "origin") or "",
        "commit": commit,
        "changed": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def now() -> str:
    """This second, ISO 8601, UTC."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _algorithm(named: Named) -> str:
    return MODEL_DIGEST if named.name == "model" else "sha256"


def _data_set(data: Consumed) -> dict[str, Any]:
    return {
        "name": data.name,
        "digest": {ROOT_DIGEST: data.root},
        "annotations": {
            "role": "data set",
            "content": data.content,
            "checked": data.checked,
            "presentations": data.presentations,
            "consumed": [part.model_dump() for part in data.contributors],
        },
    }


def _parent(parent: Named) -> dict[str, Any]:
    return {
        "name": parent.name,
        "digest": {_algorithm(parent): parent.digest},
        "annotations": {"role": "parent model"},
    }


def _code(revision: Mapping[str, str | bool]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "code",
        "digest": {"gitCommit": revision["commit"]},
        "annotations": {"role": "code", "uncommittedChanges": revision["changed"]},
    }
    if revision["uri"]:
        found["uri"] = f"git+{revision['uri']}"
    return found


def _revision(entry: Mapping[str, Any] | None) -> dict[str, str | bool] | None:
    if entry is None:
        return None
    return {
        "uri": str(entry.get("uri", "")).removeprefix("git+"),
        "commit": str(entry["digest"]["gitCommit"]),
        "changed": bool(entry["annotations"]["uncommittedChanges"]),
    }


def _named(entry: Mapping[str, Any]) -> Named:
    digests = list(entry["digest"].values())
    return Named(name=str(entry["name"]), digest=str(digests[0]))


def _consumed(entry: Mapping[str, Any]) -> Consumed:
    notes = entry["annotations"]
    return Consumed(
        name=entry["name"],
        root=entry["digest"][ROOT_DIGEST],
        content=notes["content"],
        checked=notes["checked"],
        presentations=notes["presentations"],
        contributors=tuple(ConsumedPart.model_validate(part) for part in notes["consumed"]),
    )
