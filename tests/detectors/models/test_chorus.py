"""Voices are put together by class, one statistic is judged, and silence is said."""

import numpy as np
import pytest
from tests.detectors.models.conftest import Make

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.chorus import Chorus
from gifthorse.detectors.models.mm_bd import MmBd
from gifthorse.models.classifier import ImageClassifier


def heard(model: ImageClassifier, trusted: ArrayImages, seed: int = 0) -> Evidence:
    subject = Subject(model=model, trusted=trusted)
    return Chorus(samples=60).inspect(subject, rng=np.random.default_rng(seed), progress=silent)


@pytest.mark.efficacy(of=Chorus)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_planted_class_is_loudest_and_the_twin_is_quieter(
    make: Make, trusted: ArrayImages, seed: int
) -> None:
    planted, twin = heard(make(4), trusted, seed), heard(make(None), trusted, seed)
    assert planted.suspects.tolist() == [4]
    assert planted.triggers[0].target == 4
    assert planted.statistic == planted.scores.max()
    assert planted.statistic > twin.statistic + 1
    assert "universality" in planted.notes[0]
    assert "plain_changes" in planted.notes[0]


def test_a_voice_that_does_not_apply_is_named(
    make: Make, trusted: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mute(*_: object, **__: object) -> Evidence:
        raise NotApplicableError("no margin to speak of")

    monkeypatch.setattr(MmBd, "inspect", mute)
    evidence = heard(make(4), trusted)
    assert evidence.suspects.tolist() == [4]
    assert any("mm_bd says nothing: no margin to speak of" in note for note in evidence.notes)


def test_many_classes_are_not_for_it(make: Make, trusted: ArrayImages) -> None:
    with pytest.raises(NotApplicableError, match="at most 32"):
        heard(make(None, classes=33), trusted)


def test_it_has_no_null_of_its_own() -> None:
    from gifthorse.core.types import Unit

    evidence = Evidence(unit=Unit.CLASS, scores=np.zeros(4), statistic=0.0)
    with pytest.raises(NotApplicableError, match="no reference bank"):
        Chorus().null(evidence)
