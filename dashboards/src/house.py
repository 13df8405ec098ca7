"""How every panel and board looks: the only module that knows Grafana's builders.

Grafana's models are mutable builders of JSON; what leaves this module is finished. Units are Grafana's ids
(`s`, `reqps`, `percentunit` for 0..1, `currencyUSD`, `bytes`, `short`, ...).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.builders.bargauge import Panel as BarGauge
from grafana_foundation_sdk.builders.heatmap import HeatmapColorOptions, YAxisConfig
from grafana_foundation_sdk.builders.heatmap import Panel as Heatmap
from grafana_foundation_sdk.builders.logs import Panel as Logs
from grafana_foundation_sdk.builders.loki import Dataquery as LokiQuery
from grafana_foundation_sdk.builders.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.text import Panel as Text
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from dashboards.src.explore import explored
from infra.links import LINKS

Panel = models.Panel
Variable = models.VariableModel
Dashboard = models.Dashboard

WIDTH: Final = 24
TAG: Final = "trellis"
RED: Final = "red"
_NOTHING: Final = "no data"
_JUDGEMENTS: Final = (
    ("green", "2xx|ok|done|answered|ready|found|exported"),
    ("orange", "4xx|timeout|rate_limited|warning|refused|withheld|parked"),
    (RED, "5xx|error|failed|critical|unreachable|broken|lied|unanswered"),
)


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, with `$__rate_interval` as its window; `legend` is Grafana's (`{{label}}`)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, as many as 24 columns take; the rest goes below."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


def series(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    target: str | None = None,
    target_name: str = "target",
    stacked: bool = False,
    exemplars: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
    judged: bool = False,
) -> Panel:
    """Lines over time.

    Args:
        target: an expression that is drawn as a dashed red line named `target_name`.
        exemplars: shows traces of single observations as dots, where the metric carries them.
        judged: lines whose names end in an outcome that is good or bad are green, orange or red.
    """
    builder = TimeSeries().unit(unit).line_width(1).fill_opacity(10)
    builder.show_points(shapes.VisibilityMode.AUTO).legend(_legend()).tooltip(_tooltip())
    if minimum is not None:
        builder.min(minimum)
    if maximum is not None:
        builder.max(maximum)
    if stacked:
        builder.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A")).fill_opacity(40)
    if target is not None:
        builder.override_by_name(target_name, _target_line())
        queries = (*queries, Query(target, target_name))
    for colour, ends in _JUDGEMENTS if judged else ():
        builder.override_by_regexp(f"/(^| )({ends})$/", [_fixed(colour)])
    return _asking(builder.build(), title, description, width, height, queries, exemplars=exemplars)


def _legend() -> common.VizLegendOptions:
    options = common.VizLegendOptions().show_legend(True)
    return options.display_mode(shapes.LegendDisplayMode.LIST).placement(shapes.LegendPlacement.BOTTOM)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING)


def _fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _target_line() -> list[models.DynamicConfigValue]:
    return [
        _fixed(RED),
        models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
        models.DynamicConfigValue("custom.lineWidth", 2),
        models.DynamicConfigValue("custom.fillOpacity", 0),
        models.DynamicConfigValue("custom.stacking", {"mode": "none", "group": "A"}),
    ]


def stat(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = 4,
    height: int = 4,
    steps: Sequence[tuple[float, str]] = (),
    decimals: int | None = None,
) -> Panel:
    """One figure. `steps`: (from, colour); the first colour also counts below its own value."""
    builder = Stat().unit(unit).no_value(_NOTHING).mappings([_nothing()]).reduce_options(_last())
    builder.graph_mode(shapes.BigValueGraphMode.AREA).thresholds(_thresholds(steps))
    builder.color_mode(shapes.BigValueColorMode.BACKGROUND if steps else shapes.BigValueColorMode.NONE)
    if decimals is not None:
        builder.decimals(decimals)
    return _asking(builder.build(), title, description, width, height, (query,))


def _nothing() -> models.SpecialValueMap:
    """A quantile of no events is NaN, which is neither good nor bad."""
    result = models.ValueMappingResult(_NOTHING, "text")
    return models.SpecialValueMap(models.DashboardSpecialValueMapOptions(models.SpecialValueMatch.NULL_AND_NAN, result))


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _thresholds(steps: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    first, *rest = steps or ((0.0, "text"),)
    found = [models.Threshold(None, first[1]), *(models.Threshold(value, colour) for value, colour in rest)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def table(
    title: str,
    description: str,
    *queries: Query,
    width: int = 12,
    height: int = 8,
    columns: Mapping[str, str],
    links: Mapping[str, str] | None = None,
) -> Panel:
    """One line for each set of labels, now.

    Args:
        queries: each gives a column, named by its legend.
        columns: what is shown, from left to right, with its unit (`string` for a label).
        links: column -> address behind its cells; Grafana puts `${__value.raw}` in.
    """
    builder = Table().filterable(True)
    for column, unit in columns.items():
        url = (links or {}).get(column)
        address = (
            [models.DynamicConfigValue("links", [{"title": column, "url": url, "targetBlank": True}])] if url else []
        )
        builder.override_by_name(column, [models.DynamicConfigValue("unit", unit), *address])
    panel = _asking(
        builder.build(), title, description, width, height, queries, instant=True, shape=PromQueryFormat.TABLE
    )
    panel.transformations = _columns(queries, tuple(columns))
    return panel


def _columns(queries: Sequence[Query], columns: Sequence[str]) -> list[models.DataTransformerConfig]:
    """Grafana names the value of a lone query `Value`, of several `Value #A`, `Value #B`, ..."""
    names = ["Value"] if len(queries) == 1 else [f"Value #{_letter(index)}" for index in range(len(queries))]
    renamed = {name: query.legend for name, query in zip(names, queries, strict=True)}
    before = {legend: name for name, legend in renamed.items()}
    order = {before.get(column, column): index for index, column in enumerate(columns)}
    return [
        models.DataTransformerConfig(id_val="merge", options={}),
        models.DataTransformerConfig(id_val="organize", options={"renameByName": renamed, "indexByName": order}),
        models.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(columns)}}),
    ]


def heatmap(title: str, description: str, unit: str, query: Query, *, width: int = 12, height: int = 8) -> Panel:
    """Where the values of a histogram lie, over time: of `sum by (le) (rate(..._bucket[$__rate_interval]))`."""
    colours = HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    builder = Heatmap().calculate(False).color(colours).y_axis(YAxisConfig().unit(unit))
    edges = Query(query.expr, "{{le}}")
    return _asking(builder.build(), title, description, width, height, (edges,), shape=PromQueryFormat.HEATMAP)


def bars(title: str, description: str, unit: str, query: Query, *, width: int = 8, height: int = 8) -> Panel:
    """One bar for each value of a label, now."""
    builder = BarGauge().unit(unit).min(0).no_value(_NOTHING).reduce_options(_last())
    builder.orientation(shapes.VizOrientation.HORIZONTAL).display_mode(shapes.BarGaugeDisplayMode.BASIC)
    builder.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    return _asking(builder.build(), title, description, width, height, (query,), instant=True)


def states(
    title: str,
    description: str,
    query: Query,
    *,
    width: int = 24,
    height: int = 6,
    colours: Mapping[float, tuple[str, str]],
) -> Panel:
    """Which state each series was in, over time. `colours`: value -> (text, colour)."""
    found = {f"{value:g}": models.ValueMappingResult(text, colour) for value, (text, colour) in colours.items()}
    builder = StateTimeline().unit("short").mappings([models.ValueMap(found)]).merge_values(True)
    builder.show_value(shapes.VisibilityMode.AUTO).row_height(0.8).legend(_legend())
    return _asking(builder.build(), title, description, width, height, (query,))


def logs(title: str, description: str, expr: str, *, width: int = 24, height: int = 8) -> Panel:
    """Lines of Loki, newest first. `expr` is LogQL."""
    builder = Logs().show_time(True).wrap_log_message(True).enable_log_details(True)
    panel = _placed(builder.sort_order(shapes.LogsSortOrder.DESCENDING).build(), title, description, width, height)
    panel.datasource = _loki()
    panel.targets = [LokiQuery().datasource(_loki()).expr(expr).ref_id("A").build()]
    return panel


def note(markdown: str, *, width: int = 24, height: int = 3) -> Panel:
    """A text; it needs no title."""
    return _placed(Text().mode(TextMode.MARKDOWN).content(markdown).build(), "", "", width, height)


def _asking(
    panel: Panel,
    title: str,
    description: str,
    width: int,
    height: int,
    queries: Sequence[Query],
    *,
    instant: bool = False,
    exemplars: bool = False,
    shape: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> Panel:
    panel.datasource = _prometheus()
    panel.targets = []
    for index, query in enumerate(queries):
        target = PrometheusQuery().datasource(_prometheus()).expr(query.expr).ref_id(_letter(index))
        target.legend_format(query.legend).exemplar(exemplars).format(shape)
        panel.targets.append((target.instant() if instant else target.range()).build())
    return _placed(panel, title, description, width, height)


def _prometheus() -> models.DataSourceRef:
    return models.DataSourceRef("prometheus", "${datasource}")


def _loki() -> models.DataSourceRef:
    return models.DataSourceRef("loki", "${logs}")


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _placed(panel: Panel, title: str, description: str, width: int, height: int) -> Panel:
    panel.title, panel.description = title, description
    panel.grid_pos = models.GridPos(height, width)
    return panel


def label_variable(name: str, label: str, metric: str) -> Variable:
    """A choice among the values that `label` has on `metric`; several at once, and all. In PromQL: `=~"$name"`."""
    builder = dashboard.QueryVariable(name).label(name.replace("_", " ")).datasource(_prometheus())
    builder.query({"query": f"label_values({metric}, {label})", "refId": "A"}).multi(True)
    builder.include_all(True).all_value(".*").sort(models.VariableSort.ALPHABETICAL_ASC)
    return builder.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).build()


def board(
    uid: str,
    title: str,
    description: str,
    *,
    tags: Sequence[str],
    rows: Sequence[Row],
    variables: Sequence[Variable] = (),
    since: str = "now-3h",
) -> Dashboard:
    """A dashboard; `since`: how far back it shows when it is opened.

    With it come the datasource variables `$datasource`, `$logs` and `$traces`, the moments at which a version
    started, and links to the other boards, runbooks, traces and logs.
    """
    return Dashboard(
        uid=uid,
        title=title,
        description=description,
        tags=[TAG, *tags],
        timezone="browser",
        editable=False,
        graph_tooltip=models.DashboardCursorSync.CROSSHAIR,
        time=models.DashboardDashboardTime(since, "now"),
        refresh="30s",
        panels=list(_laid(rows)),
        templating=models.DashboardDashboardTemplating([*_sources(), *variables]),
        annotations=models.AnnotationContainer([_deployments()]),
        links=list(_links()),
    )


def _laid(rows: Sequence[Row]) -> Iterator[Panel | models.RowPanel]:
    """The rows from top to bottom, each under its heading; ids count up, a collapsed row holds its panels."""
    top, number = 0, 0
    for row in rows:
        heading = models.RowPanel(
            row.collapsed, row.title, grid_pos=models.GridPos(1, WIDTH, 0, top), id_val=(number := number + 1)
        )
        bottom = _lay(row.panels, top + 1)
        for panel in row.panels:
            panel.id_val = (number := number + 1)
        heading.panels = list(row.panels) if row.collapsed else []
        yield heading
        yield from () if row.collapsed else row.panels
        top = top + 1 if row.collapsed else bottom


def _lay(panels: Sequence[Panel], top: int) -> int:
    """Places panels from `top` down; returns the first free line below them."""
    left, line = 0, 0
    for panel in panels:
        place = panel.grid_pos or models.GridPos()
        if left + place.w > WIDTH:
            top, left, line = top + line, 0, 0
        place.x, place.y = left, top
        left, line = left + place.w, max(line, place.h)
    return top + line


def _sources() -> Iterator[Variable]:
    for name, kind in (("datasource", "prometheus"), ("logs", "loki"), ("traces", "tempo")):
        label = "metrics" if name == "datasource" else name
        yield dashboard.DatasourceVariable(name).label(label).type(kind).build()


class _Deployments(models.AnnotationQuery):
    """Grafana's schema leaves out what its Prometheus source reads: the titles of annotations."""

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": "Version {{version}} starts", "tagKeys": "version", "step": "60s"}


def _deployments() -> models.AnnotationQuery:
    """A scrape that is missed is no start: a version starts that nobody ran for ten minutes."""
    expr = (
        "sum by (version) (trellis_build_info) unless "
        "sum by (version) (max_over_time(trellis_build_info[10m] offset 2m))"
    )
    return _Deployments(name="Deployments", datasource=_prometheus(), icon_color="blue", expr=expr)


def _links() -> Iterator[models.DashboardLink]:
    boards = dashboard.DashboardLink("Trellis boards").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    yield boards.as_dropdown(True).keep_time(True).include_vars(False).build()
    yield _outside("Runbooks", LINKS.runbooks)
    yield _outside("Traces", explored("traces", {"queryType": "traceqlSearch", "limit": 20}))
    yield _outside("Logs", explored("logs", {"expr": '{service_name=~"trellis.*"}'}))


def _outside(title: str, url: str) -> models.DashboardLink:
    link = dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url)
    return link.icon("external link").target_blank(True).build()


def document(found: Dashboard) -> str:
    """The board as Grafana reads it: JSON whose keys are sorted, so that a difference is a change."""
    return json.dumps(found, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
