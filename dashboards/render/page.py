"""A board as one HTML page that holds everything: pictures, every series's figures, trace ids, queries, errors."""

import base64
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from matplotlib.image import imsave

from dashboards.render.gather import BoardData, PanelData, Series, Span
from dashboards.render.grafana import COLUMNS
from dashboards.render.picture import Picture, Pixels
from dashboards.render.prometheus import Exemplar
from dashboards.render.tiles import grid, plain
from dashboards.render.units import humane

_TRACES: Final = 50
_STYLE: Final = """
body { margin: 0 auto; max-width: 1660px; padding: 0 12px 40px; background: #f5f7fa; color: #1f2933;
  font: 15px/1.45 system-ui, sans-serif; }
img { width: 100%; display: block; }
h2 { margin: 18px 0 6px; font-size: 18px; }
.grid { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px; align-items: start; }
.panel { min-width: 0; }
details { background: #fff; border: 1px solid #e4e7eb; border-radius: 4px; padding: 4px 10px; overflow-x: auto; }
summary { cursor: pointer; color: #616e7c; font-size: 13px; }
table { border-collapse: collapse; font-size: 13px; }
th { text-align: left; color: #616e7c; font-weight: normal; }
td, th { padding: 2px 10px 2px 0; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
.errors { color: #b42318; }
@media (max-width: 700px) { .panel { grid-column: 1 / -1 !important; } }
"""


def png(pixels: Pixels) -> bytes:
    """The same pixels give the same bytes."""
    held = io.BytesIO()
    without_a_version: dict[str, Any] = {"Software": None}
    imsave(held, pixels, format="png", metadata=without_a_version, pil_kwargs={"optimize": True})
    return held.getvalue()


def page(data: BoardData, picture: Picture) -> str:
    """The whole page; it loads nothing from anywhere."""
    return document(data.board.title, [f"<h1 hidden>{escape(data.board.title)}</h1>", *body(data, picture)])


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """An HTML page of these parts, with `style` behind this module's own."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def body(data: BoardData, picture: Picture) -> Iterator[str]:
    """What a page shows of one board, without its head and its end."""
    yield _image(picture.part(picture.head), f"{data.board.title}: {data.board.description}")
    yield from _alerts(data.spans)
    yield from _sections(data, picture)
    yield from _errors(data.errors)


def _image(pixels: Pixels, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png(pixels)).decode()}">'


def _sections(data: BoardData, picture: Picture) -> Iterator[str]:
    rest = iter(zip(data.panels, picture.panels, strict=True))
    for section in data.board.sections:
        if section.title:
            yield f"<h2>{escape(section.title)}</h2>"
        yield '<div class="grid">'
        for panel, (shown, box) in zip(section.panels, rest, strict=False):
            place = panel.place
            last = min(place.x + place.w, COLUMNS) + 1
            yield f'<section class="panel" style="grid-column: {place.x + 1} / {last}">'
            yield _image(picture.part(box), panel.title or "note")
            yield from _details(shown)
            yield "</section>"
        yield "</div>"


def _details(data: PanelData) -> Iterator[str]:
    panel = data.panel
    if panel.kind == "text":
        text = " ".join(line for line, _heading in plain(str(panel.options.get("content") or "")))
        yield f"<details><summary>Text</summary><p>{escape(text)}</p></details>"
        return
    yield "<details><summary>Figures</summary>"
    if panel.description:
        yield f"<p>{escape(panel.description)}</p>"
    if panel.kind == "table":
        found = grid(data)
        yield table(found.columns, [[text for text, _ink in row] for row in found.rows], found.numeric)
    elif data.series:
        yield table(("series", "last", "least", "most"), [_figures(s) for s in data.series], (False, True, True, True))
    yield from (f'<p class="errors">{escape(error)}</p>' for error in data.errors)
    if data.exemplars:
        yield _exemplars(data.exemplars, panel.style.unit)
    yield from (f"<p><code>{escape(query)}</code></p>" for query in data.queries)
    yield "</details>"


def _figures(series: Series) -> Sequence[str]:
    finite = [value for _time, value in series.points if math.isfinite(value)]
    values = (series.last, min(finite, default=math.nan), max(finite, default=math.nan))
    return series.name, *(humane(value, series.style.unit, series.style.decimals) for value in values)


def _exemplars(exemplars: Sequence[Exemplar], unit: str) -> str:
    """The slowest first: those are looked for."""
    slowest = sorted(exemplars, key=lambda exemplar: (-exemplar.value, exemplar.time))[:_TRACES]
    rows = [(_clock(each.time), humane(each.value, unit), each.trace) for each in slowest]
    return table(("observed (UTC)", "value", "trace"), rows, (False, True, False))


def _alerts(spans: Sequence[Span]) -> Iterator[str]:
    rows = [
        (
            span.name,
            f"{span.severity} {span.detail}".strip(),
            span.state,
            *map(_clock, (span.start, span.end)),
        )
        for span in spans
    ]
    if rows:
        yield "<details><summary>Alerts and events</summary>"
        yield table(("name", "what", "state", "from (UTC)", "to"), rows, (False,) * 5)
        yield "</details>"


def _errors(errors: Sequence[str]) -> Iterator[str]:
    if errors:
        yield '<h2 class="errors">Queries that failed</h2>\n<ul class="errors">'
        yield from (f"<li>{escape(error)}</li>" for error in errors)
        yield "</ul>"


def table(names: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool]) -> str:
    """An HTML table of plain texts; `numeric` columns stand to the right."""
    kinds = [' class="n"' if right else "" for right in numeric]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, names, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _clock(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%H:%M:%S}"
