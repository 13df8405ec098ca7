"""Each kind of panel is drawn, in its place, and says so where it has nothing."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dashboards.render.alerts import alert_lines, merged
from dashboards.render.axis import moments, values
from dashboards.render.canvas import Canvas
from dashboards.render.gather import BoardData, Span
from dashboards.render.lines import packed, stretches, thinned
from dashboards.render.page import png
from dashboards.render.picture import draw
from dashboards.render.prometheus import Exemplar, Found, Window
from dashboards.render.tiles import grid, plain, written
from tests.support.boards import END, START, STEP, FakePrometheus, between, board, gathered, over, panel, row

WIDTH = 1200
BUCKETS = [over(value, le=le) for value, le in ((1.0, "0.1"), (3.0, "0.5"), (4.0, "+Inf"))]
KINDS: Mapping[str, tuple[Mapping[str, Any], list[Found]]] = {
    "timeseries": ({"unit": "s"}, [over([0.1, 0.4], way="whole"), over(0.2, way="piece")]),
    "stat": ({"unit": "percentunit"}, [over([0.02, 0.04])]),
    "bargauge": ({"instant": True}, [over(3, pack="chat"), over(5, pack="leads")]),
    "table": ({"instant": True, "shape": "table"}, [over(3, pack="chat"), over(5, pack="leads")]),
    "heatmap": ({"shape": "heatmap"}, BUCKETS),
    "state-timeline": ({}, [over([0] * 30 + [1] * 31, name="model:local")]),
}


async def drawn(kind: str, series: list[Found], **how: Any) -> tuple[BoardData, np.ndarray[Any, Any]]:
    data = await gathered(board(panel(kind, "x", **how)), FakePrometheus({"x": series}))
    return data, draw(data, WIDTH).part(draw(data, WIDTH).panels[0])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_panel_shows_its_values_and_other_values_otherwise(kind: str) -> None:
    how, series = KINDS[kind]
    _data, shown = await drawn(kind, series, **how)
    _data, empty = await drawn(kind, [], **how)
    changed = [Found(each.labels, [(time, value * 7 + 1) for time, value in each.points]) for each in series[:1]]
    _data, other = await drawn(kind, changed + series[1:], **how)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20
    assert not np.array_equal(shown, empty)
    assert not np.array_equal(shown, other)


async def test_the_same_answers_give_the_same_bytes() -> None:
    how, series = KINDS["timeseries"]
    _data, first = await drawn("timeseries", series, **how)
    _data, second = await drawn("timeseries", series, **how)
    assert png(first) == png(second)
    assert b"matplotlib" not in png(first).lower()


async def test_panels_are_where_the_grid_has_them_under_the_titles_of_their_rows() -> None:
    panels = [
        row("One"),
        panel("stat", "x", w=6, h=4),
        panel("stat", "x", w=18, h=4, x=6),
        row("Two"),
        panel("stat", "x", y=9),
    ]
    picture = draw(await gathered(board(*panels), FakePrometheus()), WIDTH)
    left, right, below = picture.panels
    assert left.y == right.y
    assert (left.h, below.h) == (4 * 44 - 12, 8 * 44 - 12)
    assert right.x - left.right == pytest.approx(12, abs=1)
    assert right.right == WIDTH - 20
    assert below.y > left.bottom
    assert picture.pixels.shape[:2] == (round(below.bottom) + 20, WIDTH)


async def test_a_panel_says_what_it_cannot_show(said: list[str]) -> None:
    logs = {"type": "logs", "title": "Logs", "gridPos": {"w": 8, "h": 8}, "datasource": {"type": "loki"}}
    zero = panel("stat", "gone", defaults={"noValue": "none so far"})
    panels = [panel("timeseries", "none"), panel("stat", "broken"), logs, panel("geomap", "x"), zero]
    prometheus = FakePrometheus({"broken": "bad_data: parse error", "x": [over(1)]})
    draw(await gathered(board(*panels), prometheus), WIDTH)
    for words in ("No data", "bad_data: parse error", "Needs Loki", "'geomap' are not drawn", "none so far"):
        assert words in " ".join(said)


async def test_a_target_alone_is_no_data(said: list[str]) -> None:
    dashed = {
        "matcher": {"id": "byName", "options": "x"},
        "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash"}}],
    }
    draw(
        await gathered(
            board(panel("timeseries", "x", legend="x", overrides=[dashed])), FakePrometheus({"x": [over(3)]})
        ),
        WIDTH,
    )
    assert "No data" in said


async def test_an_alert_is_named_at_the_head_and_above_every_plot(said: list[str]) -> None:
    alerts = [between(200, 400, alertname="ModelErrors", alertstate="firing", severity="page")]
    prometheus = FakePrometheus({"ALERTS": alerts, "x": [over([1, 2])]})
    data = await gathered(board(panel("timeseries", "x"), panel("timeseries", "x", x=8)), prometheus)
    picture = draw(data, WIDTH)
    assert said.count("ModelErrors") == 3
    assert any(text.startswith("firing") for text in said)
    quiet = draw(await gathered(data_board(), FakePrometheus({"x": [over([1, 2])]})), WIDTH)
    assert not np.array_equal(picture.part(picture.panels[0]), quiet.part(quiet.panels[0]))


def data_board() -> dict[str, Any]:
    return board(panel("timeseries", "x"), panel("timeseries", "x", x=8))


async def test_a_target_far_above_all_values_is_named_and_does_not_press_them_down(said: list[str]) -> None:
    dashed = {
        "matcher": {"id": "byName", "options": "target"},
        "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash"}}],
    }
    document = panel("timeseries", "x", "t", unit="s", overrides=[dashed])
    document["targets"][1]["legendFormat"] = "target"
    prometheus = FakePrometheus({"x": [over([0.01, 0.02])], "t": [over(3)]})
    draw(await gathered(board(document), prometheus), WIDTH)
    assert "target 3 s ↑" in said
    assert "20 ms" in said


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn."""
    texts: list[str] = []
    text = Canvas.text

    def heard(canvas: Canvas, x: float, y: float, words: str, *rest: Any, **more: Any) -> None:
        texts.append(words)
        text(canvas, x, y, words, *rest, **more)

    monkeypatch.setattr(Canvas, "text", heard)
    return texts


async def test_no_text_leaves_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    outside: list[str] = []
    text = Canvas.text

    def checked(canvas: Canvas, x: float, y: float, words: str, size: int = 20, *rest: Any, **more: Any) -> None:
        width = canvas.length(words, size, more.get("bold", False))
        left = x - {"left": 0.0, "center": width / 2, "right": width}[more.get("across", "left")]
        if words and (left < 0 or left + width > canvas.width or not size / 2 <= y <= canvas.height - size / 2):
            outside.append(f"{words} at {x:.0f}, {y:.0f}")
        text(canvas, x, y, words, size, *rest, **more)

    monkeypatch.setattr(Canvas, "text", checked)
    long = "a rather long name of something that nobody can shorten " * 3
    panels = [panel(kind, "x", title=long, w=4, h=5, **how) for kind, (how, _series) in KINDS.items()]
    series = [over([1e9, 5], le=str(number), pack=long, name=long) for number in range(20)]
    alerts = [
        between(500, 600, alertname=f"A{number}{long}", alertstate="firing", severity="page") for number in range(12)
    ]
    draw(await gathered(board(*panels), FakePrometheus({"x": series, "ALERTS": alerts})), 900)
    assert outside == []


async def test_a_table_joins_its_queries_by_their_labels_and_arranges_its_columns() -> None:
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "renameByName": {"Value #A": "rate", "Value #B": "errors"},
                "indexByName": {"Value #B": 0, "route": 1},
            },
        },
        {"id": "filterFieldsByName", "options": {"include": {"names": ["errors", "route", "rate"]}}},
    ]
    unit = [{"matcher": {"id": "byName", "options": "rate"}, "properties": [{"id": "unit", "value": "reqps"}]}]
    document = panel("table", "x", "y", instant=True, transformations=transformations, overrides=unit)
    prometheus = FakePrometheus(
        {
            "x": [over(2, route="/a", hidden="h"), over(3, route="/b", hidden="h")],
            "y": [over(1, route="/b", hidden="h")],
        }
    )
    found = grid((await gathered(board(document), prometheus)).panels[0])
    assert found.columns == ["errors", "route", "rate"]
    assert [[text for text, _ink in row] for row in found.rows] == [["", "/a", "2 req/s"], ["1", "/b", "3 req/s"]]
    assert found.numeric == [True, False, True]


async def test_a_figure_has_the_name_of_its_value_and_the_colour_of_its_step() -> None:
    steps = {"thresholds": {"steps": [{"color": "green", "value": None}, {"color": "red", "value": 5}]}}
    names = {"mappings": [{"type": "value", "options": {"0": {"text": "well", "color": "blue"}}}]}
    data = await gathered(
        board(panel("stat", "x", defaults=steps | names)), FakePrometheus({"x": [over(7), over(1), over(0)]})
    )
    assert [written(series) for series in data.panels[0].series] == [
        ("7", "#b42318"),
        ("1", "#1b7f4d"),
        ("well", "#0b5fa5"),
    ]


async def test_a_legend_that_is_too_long_keeps_the_largest_and_counts_the_rest() -> None:
    series = [over(number, name=f"series number {number}") for number in range(30)]
    data = await gathered(board(panel("timeseries", "x", legend="{{name}}")), FakePrometheus({"x": series}))
    entries = [(each, each.name) for each in data.panels[0].series]
    lines, hidden = packed(Canvas(400, 300), entries, 400, 2)
    kept = [each.name for line in lines for each, _text in line]
    assert len(lines) == 2
    assert hidden == 30 - len(kept)
    assert "series number 29" in kept
    assert "series number 0" not in kept


def test_ticks_are_round_and_no_two_are_written_alike() -> None:
    assert [text for _value, text in values(0, 3.2, "s")] == ["0", "1 s", "2 s", "3 s"]
    assert [text for _value, text in values(0, 3 * 1024**2, "bytes")] == ["0", "1 MiB", "2 MiB", "3 MiB"]
    written_once = [text for _value, text in values(0, 0.0004, "percentunit")]
    assert len(written_once) == len(set(written_once))


def test_moments_are_round_and_have_room() -> None:
    window = Window(START, END, STEP)
    assert [text for _time, text in moments(window, 400)] == ["14:14", "14:16", "14:18", "14:20", "14:22"]
    assert len(moments(window, 160)) <= 2
    assert [text for _time, text in moments(Window(0, 60, 1), 500)][:2] == ["00:00:00", "00:00:15"]


def test_a_gap_or_another_value_ends_a_stretch() -> None:
    points = [(0.0, 1.0), (10.0, 1.0), (20.0, 2.0), (50.0, 2.0)]
    assert stretches(points, 10.0) == [(0.0, 20.0, 1.0), (20.0, 30.0, 2.0), (50.0, 60.0, 2.0)]


def test_of_many_exemplars_the_slowest_of_each_moment_are_shown() -> None:
    window = Window(0, 400, 1)
    shown = thinned([(float(second), float(second % 7)) for second in range(400)], window)
    assert len(shown) == 40
    assert all(value == 6 for _time, value in shown)


def test_pages_come_before_tickets_and_what_touches_is_one() -> None:
    spans = [
        Span("Slow", "1d", 0, 50, "ticket", True),
        Span("Burn", "", 30, 60, "page", True),
        Span("Slow", "3d", 40, 90, "ticket", True),
        Span("Deploy", "", 5, 6),
    ]
    assert [(line.name, line.detail) for line in alert_lines(spans)] == [("Burn", ""), ("Slow", "1d, 3d")]
    assert merged(spans[:3]) == [(0, 90)]


def test_a_note_is_read_without_its_marks() -> None:
    assert plain("## Start\n**First** see [the page](https://a.b/c).\n- one `x`") == [
        ("Start", True),
        ("First see the page.", False),
        ("• one x", False),
    ]


async def test_exemplars_are_dots_on_their_plot() -> None:
    document = board(panel("timeseries", "x", unit="s", exemplar=True))
    series = {"x": [over([0.1, 0.4])]}
    without = draw(await gathered(document, FakePrometheus(series)), WIDTH)
    dots = draw(await gathered(document, FakePrometheus(series, [Exemplar(START + 300, 0.3, "abc")])), WIDTH)
    assert not np.array_equal(without.pixels, dots.pixels)
    assert io.BytesIO(png(dots.pixels)).read(8) == b"\x89PNG\r\n\x1a\n"
