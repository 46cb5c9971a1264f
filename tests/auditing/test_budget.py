"""`audit --budget`: work stops in time, and what was not examined is never called clear."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gifthorse.auditing.audit import audit, audit_held
from gifthorse.auditing.examine import Plan
from gifthorse.auditing.subjects import Held
from gifthorse.cli.main import app
from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import DataError, OutOfTimeError
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import Verdict, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.mm_bd import MmBd
from gifthorse.detectors.models.neural_cleanse import NeuralCleanse
from gifthorse.detectors.models.universality import Universality
from gifthorse.models.classifier import ImageClassifier, PassMeter, Preprocessing
from gifthorse.models.networks import small_network
from gifthorse.models.passes import metered
from gifthorse.models.saving import save_classifier

NAMES = tuple("abcdef")
QUICK = "mm_bd:steps=2,samples=2"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return linear()


def linear(strength: float = 1.0) -> ImageClassifier:
    """A linear network, which pictures can lead to every class, to the first very far."""
    layer = torch.nn.Linear(64, len(NAMES))
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 64, generator=torch.Generator().manual_seed(0)))
        layer.weight[0] *= strength
        layer.bias.zero_()
    return ImageClassifier(
        torch.nn.Sequential(torch.nn.Flatten(), layer),
        class_names=NAMES,
        preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), size=(8, 8)),
    )


@pytest.fixture(scope="module")
def trusted(model: ImageClassifier) -> ArrayImages:
    """Pictures that bear the names that the model gives them."""
    pixels = np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32)
    with torch.inference_mode():
        labels = model.logits(torch.from_numpy(pixels)).argmax(1).numpy()
    return ArrayImages.from_floats(pixels, labels, name="noise", class_names=NAMES)


def held_for(
    model: ImageClassifier, trusted: ArrayImages | None, seconds: float, *detectors: object
) -> AuditRecord:
    plan = Plan(detectors=detectors, false_alarm_rate=0.02)
    held = Held(classifier=model, trusted=trusted, notes=())
    return audit_held(held, plan, deadline=Deadline.after(seconds))[0]


ENDLESS = [
    Universality(steps=10**6),
    NeuralCleanse(passes=10**6, patience=10**6),
    MmBd(steps=10**6),
]


@pytest.mark.parametrize("detector", ENDLESS)
def test_work_that_does_not_end_is_stopped(
    model: ImageClassifier, trusted: ArrayImages, detector: object
) -> None:
    meter = model.meter.forward
    record = held_for(model, trusted, 0.05, detector)
    assert record.verdict is Verdict.INCONCLUSIVE
    assert [f.verdict for f in record.findings] == [Verdict.INCONCLUSIVE]
    assert "not checked: the time budget ended" in record.findings[0].reason
    assert record.findings[0].evidence is None
    assert record.findings[0].cost.forward_passes > 0
    assert model.meter.forward - meter < 10**6


def test_nothing_that_was_not_examined_is_clear(
    model: ImageClassifier, trusted: ArrayImages
) -> None:
    quick = MmBd(steps=2, samples=2, calibration="published")
    alone = audit(model, trusted=trusted, detectors=[QUICK], false_alarm_rate=1e-9)
    assert alone.verdict is Verdict.CLEAR  # what the first detector says by itself
    endless = MmBd(steps=10**6)
    record = held_for(model, trusted, 0.5, quick, endless, NeuralCleanse())
    assert record.verdict is Verdict.INCONCLUSIVE
    first, second, third = record.findings
    assert first.evidence is not None
    assert "ended at margin ascent" in second.reason or "time budget ended" in second.reason
    assert third.reason == "not checked: the time budget ended before it began"
    assert any("not checked: whether the model names" in note for note in record.notes)


def test_what_was_flagged_in_time_stays_flagged() -> None:
    quick = MmBd(steps=20, samples=2, calibration="published")
    record = held_for(linear(100.0), None, 1.0, quick, MmBd(steps=10**6))
    assert record.findings[0].verdict is Verdict.FLAGGED
    assert record.verdict is Verdict.FLAGGED


def test_the_clock_is_in_the_model_itself(model: ImageClassifier) -> None:
    """A method that asks the model for ever and tells nobody is stopped too."""
    x = torch.zeros(1, 1, 8, 8)

    def ask_for_ever() -> None:
        while True:
            model.logits(x)

    with metered(model, deadline=Deadline.after(0.05)), pytest.raises(OutOfTimeError):
        ask_for_ever()
    # Afterwards the model works as before.
    assert model.logits(x).shape == (1, len(NAMES))
    assert model.meter.deadline == PassMeter().deadline


def test_enough_time_changes_nothing(model: ImageClassifier, trusted: ArrayImages) -> None:
    without = audit(model, trusted=trusted, detectors=[QUICK], seed=1)
    within = audit(model, trusted=trusted, detectors=[QUICK], seed=1, budget=600)
    assert within.findings[0].evidence == without.findings[0].evidence
    assert (within.verdict, within.reason) == (without.verdict, without.reason)


def test_progress_that_has_arrived_is_not_thrown_away() -> None:
    over = Deadline(at=0.0)
    with pytest.raises(OutOfTimeError, match="at search, 3 of 4"):
        over.watching(silent)(3, 4, "search")
    over.watching(silent)(4, 4, "search")


def test_the_command_line_takes_a_budget_for_pictures(tmp_path: Path, trusted: ArrayImages) -> None:
    model = small_network(image_shape=(1, 8, 8), class_names=NAMES, seed=0, width=4)
    save_classifier(model, tmp_path / "model")
    np.savez(tmp_path / "trusted.npz", x=trusted.pixels, y=trusted.labels)
    run = CliRunner()
    common = ["audit", str(tmp_path / "model"), "--trusted", f"npz:{tmp_path / 'trusted.npz'}"]
    stopped = run.invoke(app, [*common, "--detector", "mm_bd:steps=1000000", "--budget", "0.3s"])
    assert stopped.exit_code == 3, stopped.output
    assert "not checked: mm_bd" in stopped.output
    assert "CLEAR" not in stopped.output
    assert isinstance(run.invoke(app, [*common, "--budget", "soon"]).exception, DataError)
    assert isinstance(run.invoke(app, [*common, "--budget", "0s"]).exception, DataError)
