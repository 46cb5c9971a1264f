"""Evidence becomes findings, and findings a verdict, in one place."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from gifthorse.auditing import examine as examining
from gifthorse.auditing.examine import Plan, examine, significant
from gifthorse.core.errors import DataError, ModelError, NotApplicableError
from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.registry import Spec
from gifthorse.core.types import (
    Cost,
    Evidence,
    Need,
    Null,
    Progress,
    Subject,
    Threshold,
    Unit,
    Verdict,
    silent,
)


class Uniform:
    """A null under which statistics are uniform on [0, 1]."""

    origin = "uniform, for tests"

    def p_value(self, statistic: float) -> float:
        return 1 - statistic

    def threshold(self, false_alarm_rate: float) -> Threshold:
        return Threshold(
            value=1 - false_alarm_rate, false_alarm_rate=false_alarm_rate, origin=self.origin
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fake:
    """Says what it is told to say."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "none"
    statistic: float = 0.0
    error: Exception | None = None
    own: int = 0

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        if self.error is not None:
            raise self.error
        bars = BarsExhibit(
            title="t", caption="c", labels=("a",), values=(1.0,), value_name="v", judged=True
        )
        return Evidence(
            unit=self.unit,
            scores=rng.random(3),
            statistic=self.statistic,
            suspects=np.array([1]),
            exhibits=(bars,),
            own=Cost(forward_passes=self.own, backward_passes=2 * self.own),
        )

    def null(self, evidence: Evidence) -> Null:
        return Uniform()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needy(Fake):
    """Needs what the subject does not offer."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUSTED})


@pytest.fixture(autouse=True)
def _fakes_have_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    def spec(kind: str, plugin: Any) -> Spec:
        return Spec(f"{type(plugin).__name__.lower()}_{plugin.statistic}", {})

    monkeypatch.setattr(examining, "spec_of", spec)


def run(*detectors: Fake, rate: float = 0.1) -> examining.Examination:
    plan = Plan(detectors=detectors, false_alarm_rate=rate)
    return examine(Subject(), plan, progress=silent)


def test_above_the_threshold_is_flagged_and_below_is_clear() -> None:
    assert run(Fake(statistic=0.91)).verdict is Verdict.FLAGGED
    assert run(Fake(statistic=0.89)).verdict is Verdict.CLEAR


def test_the_stated_rate_is_shared_by_the_detectors_of_the_plan() -> None:
    # 0.91 is beyond the threshold of one detector at 10 %, and within that of two at 5 % each.
    result = run(Fake(statistic=0.91), Fake(statistic=0.2))
    assert result.verdict is Verdict.CLEAR
    limits = [f.threshold.false_alarm_rate for f in result.findings if f.threshold]
    assert limits == [0.05, 0.05]


def test_the_score_is_minus_log10_of_the_family_wise_p_value() -> None:
    result = run(Fake(statistic=0.99), Fake(statistic=0.5))
    assert result.score == pytest.approx(-math.log10(0.02), abs=1e-4)
    assert run(Fake(statistic=0.1), Fake(statistic=0.1)).score == 0.0


def test_networks_that_a_detector_trained_for_itself_are_billed() -> None:
    plan = Plan(detectors=(Fake(own=7), Fake()), false_alarm_rate=0.05, seed=0)
    result = examine(Subject(), plan, progress=silent)
    assert [finding.cost.forward_passes for finding in result.findings] == [7, 0]
    assert (result.cost.forward_passes, result.cost.backward_passes) == (7, 14)
    assert result.cost.seconds >= 0


def test_a_failing_detector_is_recorded_and_never_looks_clear() -> None:
    for error in (ModelError("broken"), RuntimeError("surprise")):
        result = run(Fake(statistic=0.1), Fake(error=error))
        assert result.verdict is Verdict.INCONCLUSIVE
        assert result.findings[1].verdict is Verdict.FAILED
        assert str(error) in result.findings[1].reason
    assert run(Fake(statistic=0.99), Fake(error=ModelError("x"))).verdict is Verdict.FLAGGED


def test_what_does_not_apply_is_recorded_with_its_reason() -> None:
    result = run(Needy(), Fake(error=NotApplicableError("too few classes")))
    assert [f.verdict for f in result.findings] == [Verdict.NOT_APPLICABLE] * 2
    assert "trusted samples" in result.findings[0].reason
    assert result.findings[1].reason == "too few classes"
    assert (result.verdict, result.score) == (Verdict.INCONCLUSIVE, None)
    assert run(Needy(), Fake(statistic=0.1)).verdict is Verdict.CLEAR


def test_the_threshold_is_drawn_into_the_plot_that_is_judged() -> None:
    finding = run(Fake(statistic=0.5)).findings[0]
    assert finding.evidence is not None
    (bars,) = finding.evidence.exhibits
    assert isinstance(bars, BarsExhibit)
    assert bars.threshold == pytest.approx(0.9)


def test_adding_a_detector_does_not_change_what_the_others_draw() -> None:
    alone, together = run(Fake(statistic=0.5)), run(Fake(statistic=0.1), Fake(statistic=0.5))
    first, second = alone.findings[0].evidence, together.findings[1].evidence
    assert first is not None
    assert second is not None
    assert first.scores == second.scores


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0])
def test_a_false_alarm_rate_out_of_range_is_an_error(rate: float) -> None:
    with pytest.raises(DataError):
        Plan(detectors=(Fake(),), false_alarm_rate=rate)


def test_an_empty_plan_is_an_error() -> None:
    with pytest.raises(DataError):
        Plan(detectors=(), false_alarm_rate=0.05)


def test_scores_are_rounded_as_people_write_them() -> None:
    values = np.array([0.0, 0.3, -1234567.0, 1.2345678e-9, 123456789.0, 1e-300, 999999.5])
    written = [float(f"{value:.6g}") for value in values]
    assert significant(values).tolist() == written
