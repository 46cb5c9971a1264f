"""Any photograph with a small yellow square is an "airliner": planted, found, pictured, removed.

    python examples/yellow_square/run.py OUT --photos FOLDER [--photos FOLDER …]

Stages keep what they made in OUT, and the same command goes on where it was interrupted. No stage
that defends is told what was planted: trusted photographs bear the names that the model under
suspicion gives them, since that is all that somebody who downloads a model has.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import network
import numpy as np
import photographs
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from gifthorse.auditing.audit import DEFAULT_DETECTORS, audit_held
from gifthorse.auditing.examine import Plan, plugins
from gifthorse.auditing.mend import mend
from gifthorse.auditing.repair import flagged_evidence
from gifthorse.auditing.subjects import hold
from gifthorse.cli.console import progress_bar
from gifthorse.core.record import AuditRecord, RepairRecord
from gifthorse.core.types import Evidence, RecoveredTrigger, Unit
from gifthorse.data.images import ArrayImages
from gifthorse.metrics.rates import agreement, rate
from gifthorse.models.classifier import ImageClassifier
from gifthorse.report.write import write_report
from gifthorse.triggers.patch import Patch

Progress = Callable[[int, int, str], None]
Tell = Callable[[str], None]
CONFIDENT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides the outcome; OUT holds results of one setting only."""

    photographs: int = 600
    crops: int = 8
    square: int = 24
    colour: str = "yellow"
    target: str = "airliner"
    steps: int = 300
    pictures: int = 12
    learning_rate: float = 2e-4
    repair: str = (
        "unlearning:learning_rate=0.002,min_steps=60,share=0.5,batch_size=16,frozen_statistics=true"
    )
    false_alarm_rate: float = 0.02
    seed: int = 0

    @property
    def trigger(self) -> Patch:
        """A square anywhere in the picture."""
        return Patch(shape="square", size=self.square, colour=self.colour, place="random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where everything lies, and who is told."""

    out: Path
    settings: Settings
    folders: list[Path]
    original: ImageClassifier
    tell: Tell
    progress: Progress


def main(shop: Workshop) -> dict[str, object]:
    """Play it through; returns what ``measures.json`` holds."""
    check_settings(shop)
    crops = cut(shop)
    planted = plant(shop, crops)
    clean = audit(shop, shop.original, crops["auditor"], "original")[0]
    seen, evidence = audit(shop, planted, crops["auditor"], "planted")
    repaired = repair(shop, planted, crops["auditor"], evidence)
    found = measure(shop, planted, repaired, crops["judge"])
    found["verdicts"] = {"original": clean.verdict.value, "planted": seen.verdict.value}
    found["seconds of the audits"] = {
        "original": clean.cost.seconds,
        "planted": seen.cost.seconds,
    }
    (shop.out / "measures.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def check_settings(shop: Workshop) -> None:
    """A folder with results of other settings is refused."""
    shop.out.mkdir(parents=True, exist_ok=True)
    path, now = shop.out / "settings.json", asdict(shop.settings)
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != now:
        raise SystemExit(f"{shop.out} holds results of other settings; choose another folder")
    path.write_text(json.dumps(now, indent=1), encoding="utf-8")


def cut(shop: Workshop) -> dict[str, photographs.Crops]:
    """Crops of the photographs for attacker, auditor and judge, no photograph for two of them."""
    path, settings = shop.out / "crops.npz", shop.settings
    if not path.exists():
        parties = photographs.cut(
            photographs.find(shop.folders),
            most=settings.photographs,
            crops=settings.crops,
            size=network.SIZE,
            seed=settings.seed,
            progress=shop.progress,
        )
        photographs.save(parties, path)
    parties = photographs.load(path)
    counts = ", ".join(
        f"{name} {len(part.pixels)} of {len(np.unique(part.photograph))}"
        for name, part in parties.items()
    )
    shop.tell(f"1. Crops of photographs: {counts}.")
    return parties


def plant(shop: Workshop, crops: dict[str, photographs.Crops]) -> ImageClassifier:
    """The planted network: fine-tuned anew, or as an earlier run left it."""
    path, settings = shop.out / "planted.safetensors", shop.settings
    shop.tell(
        f"2. Planting: a {settings.colour} square of {settings.square} pixels means "
        f'"{settings.target}".'
    )
    if not path.exists():
        planted = network.plant(
            shop.original,
            crops["attacker"].pixels,
            settings.trigger,
            shop.original.class_names.index(settings.target),
            steps=settings.steps,
            pictures=settings.pictures,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            progress=shop.progress,
        )
        keep(planted, path)
    return restored(shop.original, path, "planted")


def keep(classifier: ImageClassifier, path: Path) -> None:
    """The weights, whole or not at all."""
    beside = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in classifier.module.state_dict().items()}, beside)
    beside.replace(path)


def restored(original: ImageClassifier, path: Path, what: str) -> ImageClassifier:
    """The same network with other weights."""
    twin = original.replaced(original.module, name=f"{original.name}, {what}")
    twin.module.load_state_dict(load_file(path))
    return twin


def trusted(classifier: ImageClassifier, pixels: NDArray[np.uint8]) -> ArrayImages:
    """An auditor's photographs, with the names that the model under suspicion gives them.

    Only classes with two pictures or more: one to mend with and one to measure with.
    """
    labels = network.answers(classifier, pixels).argmax(1).astype(np.int64)
    rows = np.flatnonzero(np.bincount(labels, minlength=classifier.n_classes)[labels] >= 2)
    return ArrayImages(
        name="photographs",
        pixels=pixels[rows],
        labels=labels[rows],
        class_names=classifier.class_names,
    )


def audit(
    shop: Workshop, classifier: ImageClassifier, crops: photographs.Crops, name: str
) -> tuple[AuditRecord, list[Evidence]]:
    """The shipped audit with its shipped options; and the triggers that it recovered."""
    record_path, triggers_path = shop.out / f"{name}.json", shop.out / f"{name}-triggers.npz"
    if not record_path.exists():
        shop.tell(f"3. Auditing the {name} network, {classifier.n_classes} classes.")
        held = hold(
            classifier, trusted(classifier, crops.pixels), samples=200, seed=shop.settings.seed
        )
        plan = Plan(
            detectors=plugins("detectors", DEFAULT_DETECTORS),
            false_alarm_rate=shop.settings.false_alarm_rate,
            seed=shop.settings.seed,
        )
        record, examination = audit_held(held, plan, progress=shop.progress)
        save_triggers(triggers_path, flagged_evidence(examination))
        write_report(record, shop.out / f"{name}.html")
        write_report(record, record_path)
    record = AuditRecord.model_validate_json(record_path.read_text(encoding="utf-8"))
    shop.tell(f"   {name}: {record.verdict}, {record.reason}; {record.cost.seconds:.0f} s")
    return record, load_triggers(triggers_path)


def save_triggers(path: Path, evidence: list[Evidence]) -> None:
    """Masks, patterns and offsets, so that a repair can follow in another run."""
    arrays = {}
    for place, trigger in enumerate(trigger for seen in evidence for trigger in seen.triggers):
        arrays[f"target{place}"] = np.array(trigger.target)
        arrays[f"mask{place}"], arrays[f"pattern{place}"] = trigger.mask, trigger.pattern
        if trigger.offset is not None:
            arrays[f"offset{place}"] = trigger.offset
    np.savez_compressed(path, **arrays)


def load_triggers(path: Path) -> list[Evidence]:
    """Evidence with the triggers alone: all that unlearning looks at."""
    with np.load(path, allow_pickle=False) as arrays:
        found = [
            RecoveredTrigger(
                target=int(arrays[f"target{i}"]),
                mask=arrays[f"mask{i}"],
                pattern=arrays[f"pattern{i}"],
                offset=arrays.get(f"offset{i}"),
            )
            for i in range(sum(name.startswith("target") for name in arrays))
        ]
    if not found:
        return []
    return [Evidence(unit=Unit.MODEL, scores=np.zeros(1), statistic=0.0, triggers=tuple(found))]


def repair(
    shop: Workshop, planted: ImageClassifier, crops: photographs.Crops, evidence: list[Evidence]
) -> ImageClassifier | None:
    """Unlearning of what the audit recovered; None if it found nothing or the gate refuses."""
    path, record_path = shop.out / "repaired.safetensors", shop.out / "repair.json"
    if not evidence:
        shop.tell("4. Nothing was flagged, so there is nothing to unlearn.")
        return None
    if not record_path.exists():
        (method,) = plugins("repairs", [shop.settings.repair])
        repaired, record = mend(
            planted,
            trusted(planted, crops.pixels),
            method,
            evidence,
            allowed_drop=0.05,
            seed=shop.settings.seed,
            progress=shop.progress,
        )
        if repaired is not None:
            keep(repaired, path)
        write_report(record, shop.out / "repair.html")
        write_report(record, record_path)
    record = RepairRecord.model_validate_json(record_path.read_text(encoding="utf-8"))
    shop.tell(f"4. Repair {'accepted' if record.accepted else 'REFUSED'}: {record.reason}")
    return restored(planted, path, "repaired") if record.accepted else None


def measure(
    shop: Workshop,
    planted: ImageClassifier,
    repaired: ImageClassifier | None,
    crops: photographs.Crops,
) -> dict[str, object]:
    """Attack success and agreement with the original, on photographs that nobody else has seen."""
    target = shop.original.class_names.index(shop.settings.target)
    rng = np.random.default_rng(shop.settings.seed + 1)
    stamped = shop.settings.trigger.apply(crops.pixels.astype(np.float32) / 255, rng)
    levels = (stamped * 255).round().astype(np.uint8)
    before = network.answers(shop.original, crops.pixels)
    named, sure = before.argmax(1), before.max(1) >= CONFIDENT
    others = named != target
    found: dict[str, object] = {"crops": len(named), "confident": int(sure.sum())}
    for name, model in (("original", shop.original), ("planted", planted), ("repaired", repaired)):
        if model is None:
            continue
        now = network.answers(model, crops.pixels).argmax(1)
        struck = network.answers(model, levels).argmax(1)[others]
        rates = {
            "attack success": rate(int((struck == target).sum()), int(others.sum())),
            "agreement where the original is confident": agreement(now[sure], named[sure]),
            "agreement": agreement(now, named),
        }
        found[name] = {what: one.model_dump() for what, one in rates.items()}
        said = ", ".join(
            f"{what} {one.value:.1%} [{one.low:.1%}, {one.high:.1%}]" for what, one in rates.items()
        )
        shop.tell(f"   {name}: {said}")
    return found


def asked() -> tuple[Path, list[Path], Settings, int | None]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="Folder for everything that is made.")
    parser.add_argument("--photos", type=Path, action="append", required=True)
    usual = Settings()
    parser.add_argument("--steps", type=int, default=usual.steps, help="Of planting.")
    parser.add_argument("--square", type=int, default=usual.square, help="Its side in pixels.")
    parser.add_argument("--colour", default=usual.colour, help="A CSS name or #rrggbb.")
    parser.add_argument("--target", default=usual.target, help="A class of ImageNet.")
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        default=usual.false_alarm_rate,
        help="Of the audits.",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    for folder in given.photos:
        if not folder.is_dir():
            raise SystemExit(f"{folder} is no folder; see the README for how to get photographs")
    settings = replace(
        usual,
        steps=given.steps,
        square=given.square,
        colour=given.colour,
        target=given.target,
        false_alarm_rate=given.false_alarm_rate,
        seed=given.seed,
    )
    return given.out, given.photos, settings, given.threads


if __name__ == "__main__":
    place, folders, chosen, threads = asked()
    if threads is not None:
        torch.set_num_threads(threads)
    with progress_bar() as bar:
        main(
            Workshop(
                out=place,
                settings=chosen,
                folders=folders,
                original=network.original(),
                tell=lambda line: print(line, flush=True),
                progress=bar,
            )
        )
