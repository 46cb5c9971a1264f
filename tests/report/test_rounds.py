"""The page of trials: what it draws is what the record says."""

import re

from gifthorse.core.rounds_record import TrialRecord
from gifthorse.report.rounds import MOST_TRIALS, course, render_rounds

from . import examples


def trial(**changes: object) -> TrialRecord:
    return examples.federated_trial().model_copy(update=changes)


def test_the_window_is_shaded_and_curves_have_a_point_a_round() -> None:
    drawn = course(trial())
    assert drawn.window == (20.0, 40.0)  # rounds 2 to 5 of 10
    points = [tuple(map(float, p.split(","))) for p in drawn.success.split(" ")]
    assert [x for x, _ in points] == [5 + 10 * i for i in range(10)]
    assert [y for _, y in points] == [100, 100, 0, 0, 0, 0, 50, 50, 50, 50]  # 0 is at the top
    assert "attackers present in rounds 2 to 5" in drawn.summary
    spec = trial().spec.model_copy(update={"attack": "none"})
    assert course(trial(spec=spec)).window is None


def test_every_client_has_a_lane_attackers_first() -> None:
    lanes = {lane.name: lane for lane in course(trial()).lanes}
    assert next(iter(lanes)) == "client-000"
    assert lanes["client-000"].malicious
    first, second = lanes["client-000"].cells
    assert (first.what, first.left, first.width) == ("admitted-attack", 20.0, 20.0)
    assert (second.what, second.left, second.width) == ("rejected", 40.0, 20.0)
    assert second.title == "client-000: rejected in rounds 4 to 5"
    assert [cell.what for cell in lanes["hostile-nan"].cells] == ["quarantined"]
    assert [cell.what for cell in lanes["hostile-dropped"].cells] == ["missing"]
    assert lanes["client-001"].cells == ()


def test_the_page_is_deterministic_self_contained_and_escapes_names() -> None:
    records = [trial(), trial()]
    page = render_rounds(records, name="<script>alert(1)</script>")
    assert page == render_rounds(records, name="<script>alert(1)</script>")
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert page.count('class="finding"') == 2
    assert "hostile-nan" in page
    # The table says what the lanes show: who got in, who was rejected, who was kept out.
    lines = re.findall(r'<tr><th scope="row">(\d+)</th>(.*?)</tr>', page)
    cells = {int(n): re.findall("<td>(.*?)</td>", rest)[2:] for n, rest in lines}
    out = "hostile-dropped, hostile-nan"
    assert cells[0] == ["–", "–", out]
    assert cells[2] == ["client-000", "–", out]
    assert cells[4] == ["–", "client-000", out]


def test_a_large_ledger_is_cut_and_says_so() -> None:
    page = render_rounds([trial()] * (MOST_TRIALS + 3), name="many")
    assert page.count('class="finding"') == MOST_TRIALS
    assert "3 more trials are in the ledger" in page
    assert 'class="finding"' not in render_rounds([], name="empty")
