import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.core.errors import DataError, ModelError, NotApplicableError
from gifthorse.core.registry import Spec, build, spec_of
from gifthorse.core.types import Evidence, Subject, Unit, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.inputs.strip import Strip, mean_entropies
from gifthorse.models.classifier import ImageClassifier, Preprocessing

NAMES = ("north", "east", "south", "west")


class Quarters(nn.Module):
    """Votes for the quarter with the most light; a lit first pixel rules them all."""

    def __init__(self, ruled: float = 0.0, factor: float = 1.0) -> None:
        super().__init__()
        self.ruled, self.factor = ruled, factor

    def forward(self, x: Tensor) -> Tensor:
        light = nn.functional.adaptive_avg_pool2d(x[:, :, 1:7, 1:7], 2).flatten(1) * 12
        ruled = torch.zeros_like(light)
        ruled[:, 2] = self.ruled * (x[:, 0, 0, 0] > 0.9)
        return (light + ruled) * self.factor


def classifier(module: nn.Module) -> ImageClassifier:
    pre = Preprocessing(mean=(0.0,), std=(1.0,), size=(8, 8))
    return ImageClassifier(module, class_names=NAMES, preprocessing=pre)


def pictures(n: int, seed: int, name: str = "pictures", triggered: int = 0) -> ArrayImages:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 128, (n, 1, 8, 8), dtype=np.uint8)
    pixels[:, :, 0, 0] = 0
    pixels[:triggered, :, 0, 0] = 255
    labels = rng.integers(0, 4, n).astype(np.int64)
    return ArrayImages(name=name, pixels=pixels, labels=labels, class_names=NAMES)


def look(strip: Strip, model: ImageClassifier, suspect: ArrayImages, seed: int = 0) -> Evidence:
    subject = Subject(model=model, suspect=suspect, trusted=pictures(300, 99, "trusted"))
    return strip.inspect(subject, rng=np.random.default_rng(seed), progress=silent)


def test_entropy_of_uniform_and_one_hot() -> None:
    uniform = np.full((1, 3, 4), 0.25)
    one_hot = np.eye(4)[None, :3]
    assert mean_entropies(uniform)[0] == pytest.approx(np.log(4))
    assert mean_entropies(one_hot)[0] == 0.0


def test_entropy_is_over_classes_not_over_blends() -> None:
    """Each blend is certain, but of another class: across the blends that would be ln 4."""
    assert mean_entropies(np.eye(4)[None])[0] == 0.0
    half = np.array([[[0.5, 0.5], [1.0, 0.0]]])
    assert mean_entropies(half)[0] == pytest.approx(np.log(2) / 2)


@pytest.mark.parametrize("calibration", ["rank", "published"])
def test_finds_inputs_that_rule_every_blend(calibration: str) -> None:
    strip = Strip(overlays=20, calibration=calibration)
    evidence = look(strip, classifier(Quarters(ruled=12)), pictures(200, 1, triggered=40))
    assert strip.null(evidence).p_value(evidence.statistic) < 1e-6
    assert set(range(40)) <= set(evidence.suspects.tolist())
    assert (evidence.suspects >= 40).sum() <= 0.1 * 160
    assert evidence.scores[:40].min() > np.median(evidence.scores[40:])
    assert evidence.unit is Unit.SAMPLE


def test_published_threshold_is_a_normal_quantile() -> None:
    normal = np.array([-1.0, 1.0] * 50)
    cut, p_value = Strip(calibration="published", frr=0.025)._judge(np.array([0.0, 9.0]), normal)
    assert cut == pytest.approx(1.959964 * normal.std(ddof=1))
    assert p_value == pytest.approx(1 - 0.975**2)


def test_clean_inputs_are_not_flagged() -> None:
    strip = Strip(overlays=20)
    evidence = look(strip, classifier(Quarters(ruled=12)), pictures(200, 2))
    assert strip.null(evidence).p_value(evidence.statistic) > 0.05


def test_clean_model_does_not_mind_the_trigger() -> None:
    strip = Strip(overlays=20)
    evidence = look(strip, classifier(Quarters()), pictures(200, 1, triggered=40))
    assert strip.null(evidence).p_value(evidence.statistic) > 0.05


def test_false_alarm_rate_over_many_clean_sets() -> None:
    strip, model = Strip(overlays=5, frr=0.05), classifier(Quarters())
    p_values = []
    for seed in range(40):
        subject = Subject(
            model=model, suspect=pictures(60, 500 + seed), trusted=pictures(60, 900 + seed)
        )
        evidence = strip.inspect(subject, rng=np.random.default_rng(seed), progress=silent)
        p_values.append(strip.null(evidence).p_value(evidence.statistic))
    # At 5 % two of forty are expected; seven have a probability of 0.3 %.
    assert sum(p <= 0.05 for p in p_values) < 7


def test_constant_model_is_not_flagged() -> None:
    evidence = look(Strip(overlays=5), classifier(Quarters(factor=0.0)), pictures(50, 1))
    assert evidence.statistic == pytest.approx(0.0, abs=1e-9)
    assert len(evidence.suspects) == 0


def test_same_seed_same_evidence_and_inputs_untouched() -> None:
    strip, model, suspect = Strip(overlays=5), classifier(Quarters()), pictures(50, 1)
    before = suspect.pixels.copy()
    one, two = look(strip, model, suspect, 3), look(strip, model, suspect, 3)
    assert np.array_equal(one.scores, two.scores)
    assert one.exhibits == two.exhibits
    assert np.array_equal(suspect.pixels, before)


def test_progress_ends_at_the_total_and_passes_are_counted() -> None:
    model, seen = classifier(Quarters()), []
    subject = Subject(model=model, suspect=pictures(50, 1), trusted=pictures(30, 2))
    Strip(overlays=5).inspect(
        subject,
        rng=np.random.default_rng(0),
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert seen[-1] == (80, 80)
    assert model.meter.forward == 80 * 5


def test_refuses_what_it_cannot_judge() -> None:
    strip, model = Strip(overlays=5), classifier(Quarters())
    rng = np.random.default_rng(0)
    with pytest.raises(NotApplicableError, match="image classifiers"):
        strip.inspect(Subject(suspect=pictures(5, 1)), rng=rng, progress=silent)
    with pytest.raises(NotApplicableError, match="trusted"):
        strip.inspect(Subject(model=model, suspect=pictures(5, 1)), rng=rng, progress=silent)
    few = Subject(model=model, suspect=pictures(5, 1), trusted=pictures(5, 2))
    with pytest.raises(NotApplicableError, match="5 trusted pictures"):
        strip.inspect(few, rng=rng, progress=silent)
    small = ArrayImages(
        name="small",
        pixels=np.zeros((30, 1, 7, 7), np.uint8),
        labels=np.zeros(30, np.int64),
        class_names=NAMES,
    )
    with pytest.raises(DataError, match="expected the same"):
        strip.inspect(
            Subject(model=model, suspect=pictures(5, 1), trusted=small), rng=rng, progress=silent
        )
    with pytest.raises(NotApplicableError, match="7×7"):
        strip.inspect(Subject(model=model, suspect=small, trusted=small), rng=rng, progress=silent)
    with pytest.raises(ModelError, match="NaN"):
        look(strip, classifier(Quarters(factor=float("nan"))), pictures(5, 1))


def test_configuration_is_checked_and_round_trips() -> None:
    for name, value in [
        ("overlays", 1),
        ("frr", 0.0),
        ("input_weight", 0.0),
        ("overlay_weight", float("nan")),
        ("calibration", "guess"),
    ]:
        with pytest.raises(ValueError, match=name):
            Strip(**{name: value})  # type: ignore[arg-type]
    strip = Strip(overlays=7, calibration="published")
    spec = spec_of("detectors", strip)
    assert build("detectors", Spec(spec.name, dict(spec.params))) == strip
