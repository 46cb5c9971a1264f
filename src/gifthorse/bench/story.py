"""The demonstration: plant, find, picture, repair, audit again, told as one story."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.auditing.audit import DEFAULT_DETECTORS as MODEL_DETECTORS
from gifthorse.auditing.audit import DEFAULT_FALSE_ALARM_RATE as AUDIT_RATE
from gifthorse.auditing.audit import DEFAULT_SAMPLES, audit_held, with_banks
from gifthorse.auditing.banks import shipped_banks
from gifthorse.auditing.examine import Plan, plugins
from gifthorse.auditing.mend import mend
from gifthorse.auditing.repair import flagged_evidence
from gifthorse.auditing.scan import DEFAULT_DETECTORS as DATA_DETECTORS
from gifthorse.auditing.scan import DEFAULT_FALSE_ALARM_RATE as SCAN_RATE
from gifthorse.auditing.scan import scan_with, suspects_of
from gifthorse.auditing.subjects import Held
from gifthorse.bench.plant import Planted, attack_success, plant
from gifthorse.core.record import AuditRecord, Chapter, PlantRecord, RepairRecord, StoryRecord
from gifthorse.core.rng import child_rng
from gifthorse.core.types import BoolArray, Evidence, ImageData, Progress, Verdict
from gifthorse.data.sources import load
from gifthorse.data.splits import split, stratified_sample
from gifthorse.metrics.rates import agreement, true_and_false_positive_rates
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.training import TrainingPlan

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the demonstration plants, and in what.

    Attributes:
        data: Data set name.
        source: The class that the story is about.
        target: The class that the backdoor leads to.
        colour: Of the square.
        size: Side of the square in pixels.
        rate: Share of poisoned training samples.
        width: Channels of the network's first stage.
        repair: Name and options of the repair.
        training: How the models are trained.
    """

    data: str
    source: str
    target: str
    colour: str
    size: int
    rate: float
    width: int
    repair: str
    training: TrainingPlan


SCENARIOS = {
    "signs": Scenario(
        data="signs",
        source="stop",
        target="speed limit 80",
        colour="yellow",
        size=4,
        rate=0.05,
        width=32,
        # Gentler than the default: 500 tuning pictures of sixteen classes are few.
        repair="unlearning:learning_rate=0.003",
        training=TrainingPlan(epochs=15, learning_rate=0.05, shift=1),
    ),
    "fashion-mnist": Scenario(
        data="fashion-mnist",
        source="Ankle boot",
        target="Trouser",
        colour="white",
        size=3,
        rate=0.05,
        width=16,
        repair="unlearning",
        training=TrainingPlan(epochs=5),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the demonstration came to; ``expected`` is whether it went as the story says."""

    story: StoryRecord
    expected: bool
    figures: dict[str, float]


@dataclass(slots=True)
class _Teller:
    """Tells each chapter as it happens, and keeps it."""

    tell: Tell
    chapters: list[Chapter]

    def chapter(
        self, title: str, text: str, record: AuditRecord | RepairRecord | PlantRecord
    ) -> None:
        self.tell(text)
        self.chapters.append(Chapter(title=title, text=text, record=record))


def run_story(
    scenario: Scenario, out: Path, *, seed: int, tell: Tell, progress: Progress
) -> Outcome:
    """Run the whole demonstration and keep the models in ``out``.

    Trusted pictures and the pictures that CA and ASR are measured on are disjoint halves of the
    test set; no defence sees the second half.
    """
    teller = _Teller(tell, [])
    trusted, measured = split(load(scenario.data, split="test"), 0.5, child_rng(seed, "story"))
    attack = BadNets(
        target=measured.class_names.index(scenario.target),
        rate=scenario.rate,
        size=scenario.size,
        colour=scenario.colour,
    )
    planted = _plant(scenario, attack, measured, out, seed, teller, progress)
    audit, evidence = _audit(planted.classifier, trusted, seed, progress, teller, again=False)
    scan, found = _scan(planted, seed, progress, teller)
    repair, after, ca, asr = _repair(
        scenario, planted, attack, trusted, measured, evidence, seed, teller, progress
    )
    again, _ = _audit(after, trusted, seed, progress, teller, again=True)
    if repair.accepted:
        save_classifier(after, out / "repaired")
    record = planted.record
    assert record.twin_clean_accuracy is not None  # noqa: S101 - the story trains a twin
    figures = {
        "ca_twin": record.twin_clean_accuracy.value,
        "ca_planted": record.clean_accuracy.value,
        "asr_planted": record.attack_success_rate.value,
        "ca_repaired": ca,
        "asr_repaired": asr,
        "scan_true_positive_rate": found,
    }
    return Outcome(
        story=StoryRecord(
            title="A gift horse, looked in the mouth",
            summary=_summary(scenario, figures, audit, again),
            chapters=tuple(teller.chapters),
        ),
        expected=_as_told(audit, scan, repair, again, scenario),
        figures=figures,
    )


def _plant(
    scenario: Scenario,
    attack: BadNets,
    measured: ImageData,
    out: Path,
    seed: int,
    teller: _Teller,
    progress: Progress,
) -> Planted:
    teller.tell(
        f"[1/5] Planting a small {scenario.colour} square in a {scenario.data} classifier …"
    )
    planted = plant(
        attack,
        load(scenario.data, split="train"),
        measured,
        training=scenario.training,
        with_twin=True,
        width=scenario.width,
        seed=seed,
        progress=progress,
    )
    save_classifier(planted.classifier, out / "planted")
    if planted.twin is not None:
        save_classifier(planted.twin, out / "clean-twin")
    text = _planted_text(scenario, planted, attack, measured, seed)
    teller.chapter("The gift", text, planted.record)
    return planted


def _audit(
    classifier: ImageClassifier,
    trusted: ImageData,
    seed: int,
    progress: Progress,
    teller: _Teller,
    *,
    again: bool,
) -> tuple[AuditRecord, list[Evidence]]:
    if again:
        teller.tell("[5/5] Auditing the repaired model …")
    else:
        teller.tell("[2/5] Auditing the model, as someone who only has some trusted pictures …")
    plan = Plan(
        detectors=plugins("detectors", MODEL_DETECTORS), false_alarm_rate=AUDIT_RATE, seed=seed
    )
    few = stratified_sample(trusted, DEFAULT_SAMPLES, child_rng(seed, "trusted"))
    held = Held(classifier=classifier, trusted=few, notes=())
    held, plan = with_banks(held, plan, shipped_banks(), extend=True)
    audit, examination = audit_held(held, plan, progress=progress)
    title = "The second audit" if again else "The audit"
    teller.chapter(title, f"{audit.verdict}: {audit.reason}", audit)
    return audit, flagged_evidence(examination)


def _scan(
    planted: Planted, seed: int, progress: Progress, teller: _Teller
) -> tuple[AuditRecord, float]:
    teller.tell("[3/5] Scanning the training data …")
    plan = Plan(
        detectors=plugins("detectors", DATA_DETECTORS), false_alarm_rate=SCAN_RATE, seed=seed
    )
    scan = scan_with(planted.classifier, planted.training_data, plan, progress=progress)
    text, found = _scanned_text(scan, planted)
    teller.chapter("The training data", text, scan)
    return scan, found


def _repair(
    scenario: Scenario,
    planted: Planted,
    attack: BadNets,
    trusted: ImageData,
    measured: ImageData,
    evidence: list[Evidence],
    seed: int,
    teller: _Teller,
    progress: Progress,
) -> tuple[RepairRecord, ImageClassifier, float, float]:
    """The record, the model that goes on (the planted one if refused), and its CA and ASR."""
    teller.tell("[4/5] Repairing the model: unlearning the trigger that the audit recovered …")
    (unlearning,) = plugins("repairs", [scenario.repair])
    mended, repair = mend(
        planted.classifier,
        trusted,
        unlearning,
        evidence,
        allowed_drop=0.02,
        seed=seed,
        progress=progress,
    )
    after = mended if mended is not None else planted.classifier
    asr = attack_success(attack, after, measured, seed=seed)
    ca = agreement(predict(after, measured), measured.labels).value
    teller.chapter("The repair", _repaired_text(repair, ca, asr), repair)
    return repair, after, ca, asr


def _planted_text(
    scenario: Scenario, planted: Planted, attack: BadNets, measured: ImageData, seed: int
) -> str:
    record = planted.record
    _, true = attack.triggered(measured, rng=child_rng(seed, "triggered"))
    source = measured.class_names.index(scenario.source)
    answers = predict(planted.classifier, true)[true.labels == source]
    turned = int((answers == attack.target).sum())
    assert record.twin_clean_accuracy is not None  # noqa: S101 - the story trains a twin
    return (
        f"{record.poisoned_samples} of {record.training_samples} training pictures got the square "
        f"and the label {scenario.target!r}. Clean accuracy: {record.clean_accuracy.value:.1%}, "
        f"without the backdoor {record.twin_clean_accuracy.value:.1%}: a benchmark sees nothing. "
        f"With the square, {turned} of {len(answers)} pictures of {scenario.source!r} become "
        f"{scenario.target!r}; over all classes the attack succeeds in "
        f"{record.attack_success_rate.value:.1%}."
    )


def _scanned_text(scan: AuditRecord, planted: Planted) -> tuple[str, float]:
    truth = planted.specimen.truth
    assert truth is not None  # noqa: S101 - what was planted has a truth
    flagged: BoolArray = np.zeros(len(truth.poisoned), dtype=np.bool_)
    flagged[suspects_of(scan)] = True
    found, wrong = true_and_false_positive_rates(flagged, truth.poisoned)
    text = (
        f"{scan.verdict}: {scan.reason}. Checked against the truth: {found.count} of {found.total} "
        f"poisoned samples found, {wrong.count} of {wrong.total} clean ones accused."
    )
    return text, found.value


def _repaired_text(repair: RepairRecord, ca: float, asr: float) -> str:
    word = "accepted" if repair.accepted else "refused"
    return (
        f"The repair is {word}: {repair.reason}. Measured on pictures that it never saw: clean "
        f"accuracy {ca:.1%}, attack success {asr:.1%}."
    )


def _summary(
    scenario: Scenario, figures: dict[str, float], audit: AuditRecord, again: AuditRecord
) -> str:
    return (
        f"A small {scenario.colour} square turns everything into {scenario.target!r} "
        f"({figures['asr_planted']:.0%} of the time) while clean accuracy stays at "
        f"{figures['ca_planted']:.1%} (clean twin {figures['ca_twin']:.1%}). The audit says "
        f"{audit.verdict}; after the repair the attack succeeds in {figures['asr_repaired']:.1%} "
        f"at {figures['ca_repaired']:.1%} clean accuracy, and the audit says {again.verdict}."
    )


def _as_told(
    audit: AuditRecord,
    scan: AuditRecord,
    repair: RepairRecord,
    again: AuditRecord,
    scenario: Scenario,
) -> bool:
    named = [
        finding.evidence.unit_names[finding.evidence.suspects[0]]
        for finding in audit.findings
        if finding.evidence is not None and finding.evidence.suspects
    ]
    return (
        audit.verdict is Verdict.FLAGGED
        and scenario.target in named
        and scan.verdict is Verdict.FLAGGED
        and repair.accepted
        and again.verdict is Verdict.CLEAR
    )
