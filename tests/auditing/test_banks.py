"""Banks: made, read, refused, and believed only where they fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.auditing.audit import audit, with_banks
from gifthorse.auditing.banks import (
    Bank,
    Scores,
    build_bank,
    fitting,
    read_bank,
    shipped_banks,
)
from gifthorse.auditing.examine import Plan, examine, plugins, spec_record
from gifthorse.auditing.subjects import Held
from gifthorse.core.errors import DataError
from gifthorse.core.types import Subject, Verdict, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing

CLASSES, SIDE = 5, 6
QUICK = "untargeted:steps=30,samples=20,batch_size=10,goal=0.4,restarts=2,learning_rate=0.3"


class Templates(nn.Module):
    """Linear, with random weights."""

    def __init__(self, seed: int, classes: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        weight = rng.standard_normal((classes, SIDE * SIDE)).astype(np.float32)
        self.weight = nn.Parameter(torch.from_numpy(weight))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def held(seed: int, classes: int = CLASSES) -> Held:
    names = tuple(f"class {i}" for i in range(classes))
    model = ImageClassifier(
        Templates(seed, classes),
        class_names=names,
        preprocessing=Preprocessing(mean=(0.5,), std=(1.0,), size=(SIDE, SIDE)),
    )
    rng = np.random.default_rng(seed + 1000)
    x = rng.random((40, 1, SIDE, SIDE)).astype(np.float32)
    with torch.no_grad():
        labels = model.logits(torch.from_numpy(x)).argmax(1).numpy().astype(np.int64)
    data = ArrayImages.from_floats(x, labels, name="toy", class_names=names)
    return Held(classifier=model, trusted=data, notes=())


@pytest.fixture(scope="module")
def bank() -> Bank:
    detectors = plugins("detectors", [QUICK])
    return build_bank((held(k) for k in range(20)), detectors, title="toys", samples=40)


def judged(bank: Bank | None, who: Held) -> Verdict:
    plan = Plan(
        detectors=plugins("detectors", [QUICK]),
        false_alarm_rate=0.1,
        banks=() if bank is None else (bank,),
    )
    subject = Subject(model=who.classifier, trusted=who.trusted)
    (finding,) = examine(subject, plan, progress=silent).findings
    if finding.verdict is not Verdict.INCONCLUSIVE and bank is not None:
        assert finding.threshold is not None
        assert bank.digest in finding.threshold.origin
    return finding.verdict


def test_a_bank_comes_back_from_its_file(bank: Bank, tmp_path: Path) -> None:
    path = tmp_path / "bank.json"
    path.write_text(bank.model_dump_json(indent=1), encoding="utf-8")
    assert read_bank(path) == bank
    assert len(bank.references) == len(bank.scores[0].statistics) == 20


def test_without_a_bank_the_answer_is_inconclusive(bank: Bank) -> None:
    assert judged(None, held(100)) is Verdict.INCONCLUSIVE
    assert judged(bank, held(100)) is not Verdict.INCONCLUSIVE


def test_clean_models_of_the_same_kind_are_mostly_clear(bank: Bank) -> None:
    verdicts = [judged(bank, held(200 + k)) for k in range(10)]
    assert verdicts.count(Verdict.FLAGGED) <= 4  # 1 is expected; 5 happen once in 600 times


def test_other_options_are_another_detector(bank: Bank) -> None:
    (other,) = plugins("detectors", [QUICK.replace("steps=30", "steps=31")])
    plan = Plan(detectors=(other,), false_alarm_rate=0.1, banks=(bank,))
    who = held(100)
    subject = Subject(model=who.classifier, trusted=who.trusted)
    (finding,) = examine(subject, plan, progress=silent).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "gifthorse calibrate" in finding.reason


def test_a_bank_fits_what_its_models_span(bank: Bank) -> None:
    assert fitting([bank], held(100)) == ((bank,), ())
    fit, reasons = fitting([bank], held(100, classes=7))
    assert fit == ()
    assert "5 to 5 classes and this one 7" in reasons[0]


def test_what_no_bank_judges_is_left_out_and_said(bank: Bank) -> None:
    plan = Plan(detectors=plugins("detectors", ["universality"]), false_alarm_rate=0.02)
    who, grown = with_banks(held(100), plan, [bank], extend=True)
    assert grown.detectors == plan.detectors
    assert any("not checked by untargeted" in note for note in who.notes)


def combined(bank: Bank, statistics: float) -> Bank:
    """The same models, with a ``chorus`` that says about this of each."""
    (chorus,) = plugins("detectors", ["chorus"])
    values = tuple(statistics + 0.001 * k for k in range(len(bank.references)))
    known = Scores(detector=spec_record("detectors", chorus), statistics=values)
    return bank.model_copy(update={"scores": (*bank.scores, known)}).sealed()


def test_one_statistic_takes_the_place_of_all_where_a_bank_knows_it(bank: Bank) -> None:
    plan = Plan(detectors=plugins("detectors", ["universality"]), false_alarm_rate=0.02)
    who, grown = with_banks(held(100), plan, [combined(bank, 1.0)], extend=True)
    assert [spec_record("detectors", one).name for one in grown.detectors] == ["chorus"]
    assert who.notes == ()
    _, asked = with_banks(held(100), plan, [combined(bank, 1.0)], extend=False)
    assert asked.detectors == plan.detectors  # the user chose


@pytest.mark.parametrize(
    ("statistics", "verdict"), [(1000.0, Verdict.CLEAR), (-1000.0, Verdict.FLAGGED)]
)
def test_the_combined_statistic_is_judged_by_the_bank_at_the_full_rate(
    bank: Bank, tmp_path: Path, statistics: float, verdict: Verdict
) -> None:
    known = combined(bank, statistics)
    path = tmp_path / "bank.json"
    path.write_text(known.model_dump_json(), encoding="utf-8")
    who = held(100)
    record = audit(who.classifier, trusted=who.trusted, banks=[path], false_alarm_rate=0.05)
    assert record.verdict is verdict
    (finding,) = record.findings
    assert finding.threshold is not None
    assert known.digest in finding.threshold.origin
    assert finding.threshold.false_alarm_rate == 0.05


def test_a_changed_bank_is_refused(bank: Bank, tmp_path: Path) -> None:
    content = json.loads(bank.model_dump_json())
    content["scores"][0]["statistics"][0] += 1
    path = tmp_path / "bank.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="changed since it was made"):
        read_bank(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="no reference bank"):
        read_bank(path)
    with pytest.raises(DataError, match="cannot read"):
        audit(held(1).classifier, trusted=held(1).trusted, banks=[tmp_path / "none.json"])


def test_too_few_or_the_same_models_make_no_bank() -> None:
    detectors = plugins("detectors", [QUICK])
    with pytest.raises(DataError, match="at least 20 clean models, got 2"):
        build_bank((held(k) for k in range(2)), detectors, title="few", samples=40)
    with pytest.raises(DataError, match="the same model"):
        build_bank((held(k) for k in (1, 1)), detectors, title="twice", samples=40)


def test_shipped_banks_are_sound() -> None:
    for one in shipped_banks():
        assert one.digest == one.content_digest()
        assert all(score.detector.name for score in one.scores)


def test_a_shipped_bank_knows_the_chorus_as_it_is_shipped() -> None:
    (chorus,) = plugins("detectors", ["chorus"])
    nulls = [one.null(spec_record("detectors", chorus)) for one in shipped_banks()]
    (null,) = [one for one in nulls if one is not None]
    assert 2 < null.threshold(0.02).value < 6  # in units of how clean models vary
    assert null.p_value(2.0) > 0.1
