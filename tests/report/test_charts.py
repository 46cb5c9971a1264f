"""Geometry with answers worked out by hand, and inputs that nobody should send."""

import math

import pytest
from pydantic import ValidationError

from gifthorse.core.exhibits import BarsExhibit, HistogramExhibit, Picture, ScatterExhibit
from gifthorse.report import charts, marks, scale

from . import examples


def bars(values: tuple[float, ...], highlight: tuple[int, ...] = ()) -> BarsExhibit:
    return BarsExhibit(
        title="t", caption="c", labels=("a",), values=values, value_name="v", highlight=highlight
    )


def test_bars_are_proportional() -> None:
    chart = charts.bar_chart(bars((10.0, 20.0)))
    # The scale runs from 0 to 21: the highest mark and 5 % of room.
    assert [bar.left for bar in chart.bars] == [0, 0]
    assert [bar.width for bar in chart.bars] == [round(1000 / 21, 2), round(2000 / 21, 2)]
    assert [bar.label for bar in chart.bars] == ["a", "#1"]


def test_negative_bars_grow_from_zero_to_the_left() -> None:
    chart = charts.bar_chart(bars((-10.0, 10.0)))
    low, high = chart.bars
    assert chart.zero == 50
    assert low.left + low.width == pytest.approx(50, abs=0.02)
    assert high.left == 50


def test_bars_refuse_what_is_no_number_and_ignore_marks_that_point_nowhere() -> None:
    with pytest.raises(ValidationError):
        bars((math.nan, 1.0, math.inf))
    chart = charts.bar_chart(bars((1.0,), highlight=(0, 1, 99)))
    assert [bar.hot for bar in chart.bars] == [True]
    assert charts.bar_chart(bars(())).bars == ()


def test_small_suspects_are_among_many_bars() -> None:
    values = (*[50.0 + index for index in range(100)], 1.0)
    chart = charts.bar_chart(bars(values, highlight=(100,)))
    assert len(chart.bars) == charts.MOST_BARS
    assert chart.bars[0].hot
    assert chart.bars[1].value == "50"


def test_scatter_is_thinned_and_says_so() -> None:
    count = 5000
    chart = charts.scatter_chart(
        ScatterExhibit(
            title="t",
            caption="c",
            x=tuple(float(index) for index in range(count)),
            y=(0.0,) * count,
            group=(0,) * (count - 1) + (1,),
        )
    )
    assert len(chart.ordinary) == charts.MOST_POINTS
    assert len(chart.suspect) == 1
    assert chart.legend == ("ordinary (4\u202f999)", "suspect (1)")
    assert "1\u202f500" in chart.remark


def test_scatter_with_unequal_lists() -> None:
    chart = charts.scatter_chart(
        ScatterExhibit(title="t", caption="c", x=(1.0, 3.0, 2.0), y=(1.0,), group=(5,))
    )
    assert chart.ordinary == ()
    assert chart.suspect == (charts.Point(x=50, y=50),)


def test_histogram_panels_share_an_axis() -> None:
    chart = charts.histogram_chart(
        HistogramExhibit(
            title="t",
            caption="c",
            value_name="v",
            edges=(0.0, 1.0, 2.0),
            counts={"a": (4, 2), "b": (0, 1)},
            threshold=4.0,
        )
    )
    first, second = chart.panels
    assert [column.height for column in first.columns] == [100, 50]
    assert [(column.left, column.width) for column in second.columns] == [(25, 25)]
    assert chart.threshold == scale.Tick(at=100, text="threshold 4", anchor="end")
    assert [mark.text for mark in chart.ticks] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "edges", [(), (0.0,), (1.0, 1.0), (1e300, 1e300), (-1e308, 1e308), (0, 5e-324)]
)
def test_histogram_of_nonsense(edges: tuple[float, ...]) -> None:
    exhibit = HistogramExhibit(
        title="t", caption="c", value_name="v", edges=edges, counts={"a": (1, 2, 3)}
    )
    assert len(charts.histogram_chart(exhibit).panels) == 1


def test_meter() -> None:
    mark = marks.meter(10.0, 5.0)
    assert mark is not None
    assert (mark.start, mark.beyond) == (0, True)
    assert mark.threshold == pytest.approx(mark.width / 2, abs=0.01)
    assert marks.meter(math.nan, 1.0) is None


def test_small_pictures_are_enlarged_by_a_whole_factor() -> None:
    shown = marks.shown(examples.pictures().pictures[0])
    assert (shown.width, shown.height, shown.enlarged) == (128, 128, True)
    assert shown.png is not None


@pytest.mark.parametrize("png", ["", "not base64!", "PHN2Zz4="])
def test_what_is_no_png_is_not_shown(png: str) -> None:
    shown = marks.shown(Picture(label="x", png=png, width=-3, height=10**9))
    assert shown.png is None
    assert 1 <= shown.width <= 4096
    assert 1 <= shown.height <= 4096
