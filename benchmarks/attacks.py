"""What every attack does to the victim it was made for, and what its trigger does to a clean twin.

    python benchmarks/attacks.py [--data signs,fashion-mnist] [--only wanet,lira]
        [--seeds 1] [--epochs 8]

Per attack and data set: clean accuracy (CA) and attack success rate (ASR) of the planted model and
of the clean twin (same recipe, same seed), on the whole test set; the largest and the mean change
of a pixel by the trigger; seconds. A small ResNet of width 16, 8 epochs, batches of 64. Signs:
6,000 training pictures, target "speed limit 80". Fashion-MNIST: 12,000, target "Dress". Every
attack runs with its shipped options, except where ``OPTIONS`` says so. ``--pictures DIR`` writes
each trigger's picture of itself and a triggered sample.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gifthorse.bench.plant import attack_success, plant
from gifthorse.core.errors import GifthorseError
from gifthorse.core.registry import build, names, parse_spec, plugin_class
from gifthorse.core.rng import child_rng
from gifthorse.core.types import ImageData, Strike
from gifthorse.data.sources import load
from gifthorse.data.splits import stratified_sample
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan

TARGET = 3
OPTIONS = {  # a yellow sticker is grey on grey pictures
    "fashion-mnist": {"colour": "white"},
    "signs": {},
}


def spec_of(text: str, data: str) -> tuple[str, dict[str, Any]]:
    spec = parse_spec(text)
    known = plugin_class("attacks", spec.name).__dataclass_fields__
    params = {"target": TARGET, **OPTIONS[data]}
    return spec.name, {
        **{key: value for key, value in params.items() if key in known},
        **spec.params,
    }


def pictures_of(data: str) -> tuple[ImageData, ImageData]:
    train, test = load(data, split="train"), load(data, split="test")
    if data == "fashion-mnist":
        train = stratified_sample(train, 12_000, child_rng(0, "fewer"))
        test = stratified_sample(test, 2_000, child_rng(0, "fewer"))
    return train, test


def trainer_of(epochs: int) -> SmallTrainer:
    return SmallTrainer(plan=TrainingPlan(epochs=epochs, batch_size=64), width=16)


def twin_of(train: ImageData, seed: int, trainer: SmallTrainer) -> ImageClassifier:
    """The very twin that ``plant`` trains."""
    start = trainer.fresh(train, rng=child_rng(seed, "network"))
    return trainer.fit(train, rng=child_rng(seed, "train"), start=start)


def change_of(strike: Strike, test: ImageData) -> tuple[float, float]:
    """Largest and mean absolute change of a pixel, in levels of 255, on 200 pictures at most."""
    few = stratified_sample(test, 200, child_rng(0, "change"))
    stamped, true = strike.triggered(few, rng=child_rng(0, "change"))
    struck = np.flatnonzero(strike_rows(few, true))
    if len(struck) != len(stamped):
        return float("nan"), float("nan")
    before, after = few.batch(struck), stamped.batch(np.arange(len(stamped)))
    moved = np.abs(after - before) * 255
    return float(moved.max()), float(moved.mean())


def strike_rows(few: ImageData, true: ImageData) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which pictures were struck: those of the classes that are left."""
    return np.isin(few.labels, np.unique(true.labels))


def save_pictures(strike: Strike, test: ImageData, place: Path) -> None:
    from PIL import Image

    stamped, _ = strike.triggered(test, rng=child_rng(0, "picture"))
    shown = [stamped.batch(np.arange(1))[0]]
    trigger = getattr(strike, "test_trigger", None)
    if trigger is not None:
        shown.insert(0, trigger.picture(test.image_shape))
    row = (np.concatenate(shown, axis=2) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(row if row.shape[2] == 3 else row[:, :, 0]).save(place)


def one(
    text: str,
    data: str,
    parts: tuple[ImageData, ImageData],
    twin: ImageClassifier,
    seed: int,
    trainer: SmallTrainer,
) -> tuple[str, Strike | None]:
    name, params = spec_of(text, data)
    train, test = parts
    start = time.perf_counter()
    try:
        made = build("attacks", type(parse_spec(text))(name, params))
        planted = plant(made, train, test, trainer=trainer, seed=seed)
    except GifthorseError as error:
        return f"{data} | {text} | {seed} | refused: {error}", None
    seconds = time.perf_counter() - start
    record = planted.record
    twin_ca = agreement(predict(twin, test), test.labels).value
    twin_asr = attack_success(planted.strike, twin, test, seed=seed)
    most, mean = change_of(planted.strike, test)
    return (
        f"{data} | {text} | {seed} | CA {100 * record.clean_accuracy.value:.1f} "
        f"ASR {100 * record.attack_success_rate.value:.1f} | twin CA {100 * twin_ca:.1f} "
        f"ASR {100 * twin_asr:.1f} | change {most:.0f} / {mean:.1f} | {seconds:.0f} s",
        planted.strike,
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="signs,fashion-mnist")
    parser.add_argument("--only", default="", help="specs, separated by ; or ,(names alone)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--pictures", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = options.only.split(";" if ";" in options.only or ":" in options.only else ",")
    chosen = wanted if options.only else names("attacks")
    trainer = trainer_of(options.epochs)
    for data in options.data.split(","):
        train, test = pictures_of(data)
        for seed in range(options.seeds):
            twin = twin_of(train, seed, trainer)
            for text in chosen:
                line, strike = one(text, data, (train, test), twin, seed, trainer)
                print(line, flush=True)
                if options.pictures and strike is not None:
                    save_pictures(
                        strike, test, Path(options.pictures) / f"{data}-{text.split(':')[0]}.png"
                    )


if __name__ == "__main__":
    main()
