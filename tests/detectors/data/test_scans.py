"""What both scans of features must do."""

import numpy as np
import pytest
from tests.detectors.data.planted import CLASSES, planted, subject_of

from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.exhibits import (
    BarsExhibit,
    HistogramExhibit,
    PicturesExhibit,
    ScatterExhibit,
)
from gifthorse.core.registry import Spec, build, spec_of
from gifthorse.core.types import Evidence, Features, Need, Subject, Unit, silent
from gifthorse.detectors.data.activation_clustering import ActivationClustering
from gifthorse.detectors.data.spectral_signatures import SpectralSignatures

Scan = ActivationClustering | SpectralSignatures

BOTH: list[Scan] = [ActivationClustering(), SpectralSignatures()]
VARIANTS: list[Scan] = [
    *BOTH,
    ActivationClustering(space="published", refine=False),
    SpectralSignatures(removal="published", expected_poison=0.02),
]


def look(scan: Scan, subject: Subject, seed: int = 0) -> Evidence:
    return scan.inspect(subject, rng=np.random.default_rng(seed), progress=silent)


def p_value(scan: Scan, evidence: Evidence) -> float:
    return scan.null(evidence).p_value(evidence.statistic)


@pytest.mark.efficacy("planted")
@pytest.mark.parametrize("scan", BOTH, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_the_planted_cluster(scan: Scan, seed: int) -> None:
    case = planted(seed)
    evidence = look(scan, case.subject)
    found = np.zeros(len(case.poisoned), dtype=np.bool_)
    found[evidence.suspects] = True
    assert p_value(scan, evidence) < 0.025
    assert (found & case.poisoned).sum() >= 0.95 * case.poisoned.sum()
    assert (found & ~case.poisoned).sum() <= 0.005 * (~case.poisoned).sum()


@pytest.mark.efficacy("twin")
@pytest.mark.parametrize("scan", VARIANTS, ids=repr)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_twin_is_not_flagged(scan: Scan, seed: int) -> None:
    evidence = look(scan, planted(seed, poison=0).subject)
    assert p_value(scan, evidence) > 0.05


def test_clean_data_are_rarely_flagged() -> None:
    flagged = 0
    for seed in range(100, 120):
        subject = planted(seed, poison=0, per_class=120).subject
        flagged += sum(p_value(scan, look(scan, subject)) < 0.025 for scan in BOTH)
    # 40 looks at 2.5 %: one is expected, five have a probability of 0.3 %.
    assert flagged < 5


@pytest.mark.parametrize("scan", VARIANTS, ids=repr)
def test_evidence_is_complete(scan: Scan) -> None:
    case = planted(3)
    evidence = look(scan, case.subject)
    assert evidence.unit is Unit.SAMPLE
    assert evidence.scores.shape == case.poisoned.shape
    assert evidence.scores[case.poisoned].mean() > evidence.scores[~case.poisoned].mean()
    kinds = {type(exhibit) for exhibit in evidence.exhibits}
    assert kinds == {BarsExhibit, ScatterExhibit, HistogramExhibit, PicturesExhibit}
    bars = next(e for e in evidence.exhibits if isinstance(e, BarsExhibit))
    assert bars.judged
    assert bars.labels == CLASSES
    assert bars.highlight[0] == case.target
    assert max(bars.values) == evidence.statistic
    histogram = next(e for e in evidence.exhibits if isinstance(e, HistogramExhibit))
    assert sum(map(sum, histogram.counts.values())) == len(evidence.scores)
    assert len(set(evidence.suspects.tolist())) == len(evidence.suspects)


@pytest.mark.parametrize("scan", VARIANTS, ids=repr)
def test_same_seed_same_evidence_and_inputs_untouched(scan: Scan) -> None:
    case = planted(4)
    assert case.subject.features is not None
    assert case.subject.suspect is not None
    before = case.subject.features.values.copy(), case.subject.suspect.labels.copy()
    one, two = look(scan, case.subject, 7), look(scan, case.subject, 7)
    assert np.array_equal(one.scores, two.scores)
    assert np.array_equal(one.suspects, two.suspects)
    assert one.statistic == two.statistic
    assert one.exhibits == two.exhibits
    assert np.array_equal(before[0], case.subject.features.values)
    assert np.array_equal(before[1], case.subject.suspect.labels)


@pytest.mark.parametrize("scan", BOTH, ids=lambda s: type(s).__name__)
def test_tiny_and_constant_classes_are_skipped_with_a_note(scan: Scan) -> None:
    case = planted(5)
    assert case.subject.features is not None
    assert case.subject.suspect is not None
    values = case.subject.features.values.copy()
    labels = case.subject.suspect.labels
    values[labels == 0] = 3.0
    keep = np.flatnonzero((labels != 1) | (np.cumsum(labels == 1) <= 3))
    evidence = look(scan, subject_of(values[keep], labels[keep]))
    assert "class 'b' had 3 samples and was not examined" in evidence.notes
    assert "class 'a' has features without variance and was not examined" in evidence.notes
    assert (evidence.scores[labels[keep] < 2] == 0).all()
    assert "6 externally studentised" in scan.null(evidence).origin


@pytest.mark.parametrize("scan", VARIANTS, ids=repr)
def test_works_with_fewer_features_than_components(scan: Scan) -> None:
    case = planted(6, d=3)
    assert np.isfinite(look(scan, case.subject).statistic)


@pytest.mark.parametrize("scan", VARIANTS, ids=repr)
def test_works_with_dead_features(scan: Scan) -> None:
    case = planted(6)
    assert case.subject.features is not None
    assert case.subject.suspect is not None
    values = np.pad(case.subject.features.values, ((0, 0), (0, 300)))
    subject = subject_of(values, case.subject.suspect.labels)
    assert p_value(scan, look(scan, subject)) < 0.025


@pytest.mark.parametrize("scan", BOTH, ids=lambda s: type(s).__name__)
def test_refuses_what_it_cannot_judge(scan: Scan) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 100).astype(np.int64)
    values = rng.normal(size=(300, 5)).astype(np.float32)
    with pytest.raises(NotApplicableError, match="only 3 of 3 classes"):
        look(scan, subject_of(values, labels, ("a", "b", "c")))
    with pytest.raises(NotApplicableError, match="only 0 of 8 classes"):
        look(scan, subject_of(np.zeros((800, 5), np.float32), np.repeat(np.arange(8), 100)))
    case = planted(0)
    with pytest.raises(NotApplicableError, match="needs the suspect data"):
        look(scan, Subject(suspect=case.subject.suspect))
    short = Features(values=values, predictions=labels, layer="x")
    with pytest.raises(DataError, match="300 rows of features for 3200 labels"):
        look(scan, Subject(suspect=case.subject.suspect, features=short))


@pytest.mark.parametrize("scan", BOTH, ids=lambda s: type(s).__name__)
def test_null_refuses_evidence_of_another_method(scan: Scan) -> None:
    with pytest.raises(ValueError, match="not from a scan"):
        scan.null(Evidence(unit=Unit.SAMPLE, scores=np.zeros(3), statistic=0.0))


@pytest.mark.parametrize("scan", VARIANTS, ids=repr)
def test_configuration_round_trips(scan: Scan) -> None:
    spec = spec_of("detectors", scan)
    assert build("detectors", Spec(spec.name, dict(spec.params))) == scan
    assert scan.needs == {Need.FEATURES, Need.SUSPECT_DATA}


def test_configuration_is_checked() -> None:
    for name, value in [
        ("space", "pca"),
        ("components", 1),
        ("silhouette_samples", 5),
        ("small", 0.0),
    ]:
        with pytest.raises(ValueError, match=name):
            ActivationClustering(**{name: value})  # type: ignore[arg-type]
    for name, value in [("removal", "all"), ("expected_poison", 0.0), ("components", 99)]:
        with pytest.raises(ValueError, match=name):
            SpectralSignatures(**{name: value})  # type: ignore[arg-type]
