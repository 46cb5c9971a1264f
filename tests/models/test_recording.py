"""What was consumed is what is attested, in three kinds of training loop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from gifthorse.core.errors import DataError, RecordError
from gifthorse.data.images import ArrayImages
from gifthorse.data.provenance import picture_samples, pixel_digest
from gifthorse.models.networks import small_network
from gifthorse.models.recording import (
    RecordedCollation,
    RecordedDataset,
    RecordedImages,
    RecordedLoader,
    trainer_callback,
)
from gifthorse.models.training import TrainingPlan, train
from gifthorse.provenance.manifest import Manifest, write_manifest
from gifthorse.provenance.recording import Recorder
from gifthorse.provenance.samples import Sample

PEOPLE = ("alice", "bob", "carol")


def pictures(count: int = 24) -> ArrayImages:
    rng = np.random.default_rng(0)
    return ArrayImages(
        name="dots",
        pixels=rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8),
        labels=np.arange(count, dtype=np.int64) % 3,
        class_names=("a", "b", "c"),
    )


def manifest_of(data: ArrayImages, place: Path) -> Manifest:
    people = [PEOPLE[i % 3] for i in range(len(data))]
    return write_manifest(picture_samples(data, people), place, name=data.name, content="pixels")


def recorder_of(data: ArrayImages, place: Path) -> Recorder:
    return Recorder(manifest_of(data, place), parameters={"epochs": 1})


class Items(Dataset[Any]):
    """Pictures as a plain PyTorch data set."""

    def __init__(self, data: ArrayImages) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "pixel_values": torch.from_numpy(self.data.batch(np.array([index]))[0]),
            "labels": int(self.data.labels[index]),
        }


def digest(index: int, item: dict[str, Any]) -> bytes:
    return pixel_digest(np.rint(item["pixel_values"].numpy() * 255).astype(np.uint8))


def test_our_loop_consumes_everything(tmp_path: Path) -> None:
    data = pictures()
    recorder = recorder_of(data, tmp_path / "m")
    network = small_network(image_shape=(1, 8, 8), class_names=("a", "b", "c"), seed=0, width=8)
    plan = TrainingPlan(epochs=2, batch_size=8, learning_rate=0.01)
    plain = train(network, data, plan, rng=np.random.default_rng(0))
    recorded = train(
        network,
        RecordedImages(data=data, recorder=recorder),
        plan,
        rng=np.random.default_rng(0),
    )
    assert recorded.digest() == plain.digest()
    consumed = recorder.consumed()
    assert (consumed.count, consumed.presentations) == (24, 48)
    assert consumed.checked == "content"
    assert [(part.name, part.count, part.rows) for part in consumed.contributors] == [
        (name, 8, None) for name in PEOPLE
    ]


def test_changed_data_stops_the_training(tmp_path: Path) -> None:
    data = pictures()
    recorder = recorder_of(data, tmp_path / "m")
    data.pixels[5, 0, 0, 0] ^= 1
    wrapped = RecordedImages(data=data, recorder=recorder)
    wrapped.batch(np.arange(5))
    with pytest.raises(DataError, match="sample 5 of dots is not what its manifest lists"):
        wrapped.batch(np.arange(3, 8))
    with pytest.raises(DataError, match="lists 24"):
        RecordedImages(data=pictures(20), recorder=recorder)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_notes_what_was_handed_out(tmp_path: Path, workers: int) -> None:
    data = pictures()
    recorder = recorder_of(data, tmp_path / "m")
    plain = DataLoader(
        Items(data),
        batch_size=4,
        shuffle=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(3),
    )
    seen = []
    for step, batch in enumerate(RecordedLoader(plain, recorder, digest=digest)):
        assert set(batch) == {"pixel_values", "labels"}
        seen.append(batch["pixel_values"])
        if step == 2:  # workers have fetched more by now
            break
    consumed = recorder.consumed()
    assert (consumed.count, consumed.presentations) == (12, 12)
    assert consumed.checked == "content"
    shown = {digest(0, {"pixel_values": one}) for part in seen for one in part}
    samples = list(picture_samples(data))
    rows = {part.name: part.among(range(part.size)) for part in consumed.contributors}
    attested = {samples[3 * row + PEOPLE.index(name)].digest for name in rows for row in rows[name]}
    assert attested == shown


def test_a_loader_over_a_part_of_the_data(tmp_path: Path) -> None:
    data = pictures()
    recorder = recorder_of(data, tmp_path / "m")
    part = np.array([1, 4, 7], dtype=np.int64)
    loader = DataLoader(Subset(Items(data), part.tolist()), batch_size=2)
    list(RecordedLoader(loader, recorder, positions=part))
    consumed = recorder.consumed()
    assert {one.name: one.count for one in consumed.contributors} == {
        "alice": 0,
        "bob": 3,
        "carol": 0,
    }
    assert consumed.contributors[1].among(range(8)) == [0, 1, 2]
    assert consumed.checked == "index"


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(())

    recorder = recorder_of(pictures(), tmp_path / "m")
    with pytest.raises(DataError, match="a stream"):
        RecordedDataset(Stream(), recorder)
    with pytest.raises(DataError, match="without batches"):
        RecordedLoader(DataLoader(Items(pictures()), batch_size=None), recorder)
    with pytest.raises(DataError, match="3 positions for 24"):
        RecordedDataset(Items(pictures()), recorder, positions=np.arange(3))
    with pytest.raises(DataError, match="wrap the data set"):
        RecordedCollation(dict)([{"x": 1}])  # type: ignore[list-item]
    with pytest.raises(DataError, match="nothing to attest"):
        recorder.consumed()
    with pytest.raises(DataError, match="sample 99 is not in the manifest"):
        recorder.consume(np.array([1, 99]))


def test_the_trainer_attests_what_the_model_saw(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments, default_data_collator

    data = pictures()
    recorder = recorder_of(data, tmp_path / "m")
    network = small_network(image_shape=(1, 8, 8), class_names=("a", "b", "c"), seed=0, width=8)
    module = network.module.requires_grad_(True)
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=4,
        max_steps=4,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    Trainer(
        model=module,
        args=arguments,
        train_dataset=RecordedDataset(Items(data), recorder, digest=digest),
        data_collator=RecordedCollation(default_data_collator),
        callbacks=[trainer_callback(recorder)],
    ).train()
    consumed = recorder.consumed()
    assert (consumed.count, consumed.presentations, consumed.checked) == (16, 16, "content")
    assert not module._forward_pre_hooks


def test_a_manifest_that_was_changed_is_not_recorded(tmp_path: Path) -> None:
    made = manifest_of(pictures(), tmp_path / "m")
    path = made.place / "samples.jsonl"
    path.write_text(path.read_text().replace('"alice"', '"bob"', 1))
    with pytest.raises(RecordError, match="do not have the root"):
        Recorder(made, parameters={})


def test_ids_and_contributors_fit_the_pictures() -> None:
    with pytest.raises(DataError, match="2 contributors for 24"):
        list(picture_samples(pictures(), ["a", "b"]))
    first = next(iter(picture_samples(pictures(), ids=[f"x{i}" for i in range(24)])))
    assert first[:3] == Sample("x0", "", "a", b"")[:3]
