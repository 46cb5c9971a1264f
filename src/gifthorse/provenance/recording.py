"""Notes which samples of a manifest a training run consumed; no framework is needed for it."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import BoolArray, IntArray
from gifthorse.provenance.documents import write_document
from gifthorse.provenance.keys import PrivateKey
from gifthorse.provenance.manifest import Manifest, Totals
from gifthorse.provenance.runs import (
    Consumed,
    ConsumedPart,
    Named,
    Parameter,
    Run,
    code_revision,
    files_of,
    now,
    statement_place,
)


class Recorder:
    """Watches one training run over the samples of one manifest.

    Positions are those of the manifest: line i of ``samples.jsonl`` is sample i. The manifest is
    read and verified once; 41 bytes a sample are held.

    Args:
        manifest: What is trained on.
        parameters: Hyper-parameters, for the statement.
        code: A folder of the repository whose commit is stated; None states none.
        parents: Models (directories or files) that training starts from.

    Raises:
        RecordError: The manifest is broken.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        parameters: Mapping[str, Parameter],
        code: Path | None = None,
        parents: Sequence[Path] = (),
    ) -> None:
        self.head = manifest.head
        self._parameters = dict(parameters)
        self._revision = None if code is None else code_revision(code)
        self._parents = tuple(named for parent in parents for named in files_of(parent))
        self._id, self._started = str(uuid.uuid4()), now()
        self._owners = np.empty(self.head.size, dtype=np.int64)
        self._digests = bytearray()
        names = {part.name: index for index, part in enumerate(self.head.contributors)}
        totals = Totals()
        for position, sample in enumerate(manifest.samples()):
            self._owners[position] = names.get(sample.contributor, -1)
            self._digests += sample.digest
            totals.add(sample)
        if totals.parts() != self.head.contributors:
            manifest.verify()  # says what is wrong
        self._seen: BoolArray = np.zeros(self.head.size, dtype=np.bool_)
        self._checked: BoolArray = np.zeros(self.head.size, dtype=np.bool_)
        self._presentations = 0

    def __len__(self) -> int:
        return self.head.size

    def check(self, position: int, digest: bytes) -> None:
        """Compare what is about to be trained on with the manifest.

        Raises:
            DataError: It is another content, or there is no such sample.
        """
        if not 0 <= position < self.head.size:
            raise DataError(
                f"sample {position} is not in the manifest of {self.head.name}, which lists "
                f"{self.head.size}; make the manifest of the data that you train on"
            )
        if self._digests[32 * position : 32 * position + 32] != digest:
            raise DataError(
                f"sample {position} of {self.head.name} is not what its manifest lists; the data "
                "was changed, or the manifest is of other data"
            )
        self._checked[position] = True

    def unchecked(self, positions: IntArray) -> IntArray:
        """Those of ``positions``, shape (k,), whose content was not compared yet."""
        self._refuse_strangers(positions)
        return np.asarray(positions[~self._checked[positions]])

    def consume(self, positions: IntArray, *, checked: bool = False) -> None:
        """These samples, shape (k,), were trained on.

        Args:
            positions: Which; one that occurs twice was shown twice.
            checked: ``check`` was passed for all of them, perhaps in another process.

        Raises:
            DataError: There is no such sample.
        """
        self._refuse_strangers(positions)
        self._seen[positions] = True
        self._presentations += len(positions)
        if checked:
            self._checked[positions] = True

    def consumed(self) -> Consumed:
        """What was consumed so far.

        Raises:
            DataError: Nothing was.
        """
        if not self._seen.any():
            raise DataError(f"no sample of {self.head.name} was consumed; nothing to attest")
        return Consumed(
            name=self.head.name,
            root=self.head.root,
            content=self.head.content,
            checked="content" if self._checked[self._seen].all() else "index",
            presentations=self._presentations,
            contributors=tuple(
                ConsumedPart.of(part, self._seen[self._owners == index])
                for index, part in enumerate(self.head.contributors)
            ),
        )

    def run(self, model: Path, *, digest: str | None = None, also: Sequence[Consumed] = ()) -> Run:
        """The finished run.

        Args:
            model: The directory or file that was written.
            digest: The model as audit records call it, ``sha256:…``.
            also: What was consumed of other data sets.

        Raises:
            DataError: Nothing was consumed, or there is no model.
        """
        outputs = files_of(model)
        if digest is not None:
            outputs = (*outputs, Named(name="model", digest=digest.removeprefix("sha256:")))
        return Run(
            id=self._id,
            name=model.resolve().name,
            started=self._started,
            finished=now(),
            outputs=outputs,
            consumed=(self.consumed(), *also),
            parents=self._parents,
            parameters=self._parameters,
            revision=self._revision,
        )

    def attest(
        self, model: Path, *, key: PrivateKey | None = None, digest: str | None = None
    ) -> Path:
        """Write the statement about this run into the model directory (or beside the file).

        Args:
            model: The directory or file that was written.
            key: The trainer's; without one the statement is not signed.
            digest: The model as audit records call it.

        Raises:
            DataError: Nothing was consumed, or there is no model.
            TrustInputError: It cannot be written, or the signing extra is missing.
        """
        place = statement_place(model)
        write_document(place, self.run(model, digest=digest).statement(), key=key)
        return place

    def _refuse_strangers(self, positions: IntArray) -> None:
        outside = (positions < 0) | (positions >= self.head.size)
        if outside.any():
            self.check(int(positions[outside][0]), b"")
