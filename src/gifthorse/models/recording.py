"""Records what training consumed: in our own loop, any PyTorch loop, and the Hugging Face Trainer.

All three note a sample when it is *handed to the training step*, not when it is fetched: samples
that worker processes fetched ahead and nobody used are not claimed.
"""

from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gifthorse.core.errors import DataError
from gifthorse.core.types import FloatArray, ImageData, IntArray
from gifthorse.data.provenance import pixel_digests
from gifthorse.provenance.recording import Recorder

Digest = Callable[[int, Any], bytes]
"""``digest(index, item)``: SHA-256 of the content of an item, as the manifest has it."""

_ROWS = "gifthorse_rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedImages:
    """Pictures for ``train`` that note which of them were used.

    When a picture is first used it is compared with the manifest, if that one is of pixels.

    Attributes:
        data: The pictures, in the order of the manifest.
        recorder: Of this run.

    Raises:
        DataError: The manifest lists another number of pictures.
    """

    data: ImageData
    recorder: Recorder

    def __post_init__(self) -> None:
        _same_length(self.data.name, len(self.data), self.recorder)

    @property
    def name(self) -> str:
        """The name of the underlying data."""
        return self.data.name

    @property
    def labels(self) -> IntArray:
        """Class of every picture, shape (n,)."""
        return self.data.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class."""
        return self.data.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.data.image_shape

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: IntArray) -> FloatArray:
        """The pictures at ``indices``, shape (len(indices), c, h, w), in [0, 1].

        Raises:
            DataError: One of them is not what the manifest lists.
        """
        indices = np.asarray(indices, dtype=np.int64)
        values = self.data.batch(indices)
        if self.recorder.head.content == "pixels":
            fresh = np.isin(indices, self.recorder.unchecked(indices))
            digests = pixel_digests(values[fresh])
            for index, digest in zip(indices[fresh].tolist(), digests, strict=True):
                self.recorder.check(index, digest)
        self.recorder.consume(indices)
        return values


class Tagged(NamedTuple):
    """An item of a data set with its position in the manifest."""

    position: int
    checked: bool
    item: Any


class RecordedDataset(Dataset[Tagged]):
    """A data set whose items know their positions.

    Args:
        dataset: With ``__getitem__`` and ``__len__``, in the order of the manifest.
        recorder: Of this run.
        digest: How to digest an item; without it, indices alone are recorded.
        positions: Where its items stand in the manifest, shape (n,), if it is a part of it.

    Raises:
        DataError: A stream without indices, or another number of items than the manifest lists.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        recorder: Recorder,
        *,
        digest: Digest | None = None,
        positions: IntArray | None = None,
    ) -> None:
        if isinstance(dataset, IterableDataset):
            raise DataError(
                "a stream (IterableDataset) has no indices to record; use a data set with indices"
            )
        self._dataset, self._recorder, self._digest = dataset, recorder, digest
        length = len(cast("Sized", dataset))
        if positions is None:
            _same_length("the data set", length, recorder)
        elif len(positions) != length:
            raise DataError(f"got {len(positions)} positions for {length} items")
        self._positions = positions

    def __len__(self) -> int:
        return len(cast("Sized", self._dataset))

    def __getitem__(self, index: int) -> Tagged:
        item = self._dataset[index]
        position = index if self._positions is None else int(self._positions[index])
        if self._digest is not None:
            self._recorder.check(position, self._digest(index, item))
        return Tagged(position, self._digest is not None, item)


class RecordedLoader:
    """Yields the batches of a ``DataLoader`` and notes each when it is handed out.

    Args:
        loader: Over a data set in the order of the manifest; its sampler, workers and collation are
            kept. Do not iterate over the loader itself.
        recorder: Of this run.
        digest: How to digest an item; without it, indices alone are recorded.
        positions: Where the items stand in the manifest, if the data set is a part of it.
    """

    def __init__(
        self,
        loader: "DataLoader[Any]",
        recorder: Recorder,
        *,
        digest: Digest | None = None,
        positions: IntArray | None = None,
    ) -> None:
        self._recorder = recorder
        dataset = RecordedDataset(loader.dataset, recorder, digest=digest, positions=positions)
        if loader.batch_sampler is None:
            raise DataError("a loader without batches cannot be recorded; give it a batch_size")
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=loader.batch_sampler,
            num_workers=loader.num_workers,
            collate_fn=_Collation(loader.collate_fn),
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for rows, batch in self._loader:
            _note(self._recorder, rows)
            yield batch


class _Collation:
    """Collates items as before, beside their rows (k, 2): position, and whether it was checked."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, tagged: list[Tagged]) -> tuple[torch.Tensor, Any]:
        return _rows(tagged), self._collate([one.item for one in tagged])


class RecordedCollation:
    """A collator for the Trainer: the batch of another one, with rows that the callback takes out.

    Args:
        collate: The collator that would be used otherwise; it returns a dictionary.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, tagged: list[Tagged]) -> dict[str, Any]:
        """A batch of tagged items."""
        rows = _rows(tagged)
        return dict(self._collate([one.item for one in tagged])) | {_ROWS: rows}


def trainer_callback(recorder: Recorder) -> Any:
    """A ``transformers.TrainerCallback`` that notes what the model is shown in training.

    Give the Trainer ``RecordedDataset`` as its data set and ``RecordedCollation`` as its collator:

        Trainer(model, args, train_dataset=RecordedDataset(data, recorder),
                data_collator=RecordedCollation(default_data_collator),
                callbacks=[trainer_callback(recorder)])
    """
    from transformers import TrainerCallback

    class Recording(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
        """Takes the rows out of every batch on its way into the model."""

        def __init__(self) -> None:
            self._hook: Any = None

        def on_train_begin(self, *_: Any, model: Any, **__: Any) -> None:
            def take_out(
                module: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
                rows = named.pop(_ROWS, None)
                if rows is not None and module.training:
                    _note(recorder, rows)
                return positional, named

            self._hook = model.register_forward_pre_hook(take_out, with_kwargs=True)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            if self._hook is not None:
                self._hook.remove()
                self._hook = None

    return Recording()


def _rows(tagged: list[Tagged]) -> torch.Tensor:
    if not all(isinstance(one, Tagged) for one in tagged):
        raise DataError("items without positions; wrap the data set in RecordedDataset")
    return torch.tensor([(one.position, int(one.checked)) for one in tagged], dtype=torch.int64)


def _note(recorder: Recorder, rows: torch.Tensor) -> None:
    found = rows.cpu().numpy()
    for checked in (False, True):
        part = found[found[:, 1] == int(checked), 0]
        if len(part):
            recorder.consume(part, checked=checked)


def _same_length(name: str, length: int, recorder: Recorder) -> None:
    if length != len(recorder):
        raise DataError(
            f"{name} has {length} samples and the manifest of {recorder.head.name} lists "
            f"{len(recorder)}; make the manifest of the data that you train on"
        )
