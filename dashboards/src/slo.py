"""The phase's promises: are users served, and where do time and money go."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, series, stat, table
from dashboards.src.promql import increase, quantile, rate, share
from infra.links import LINKS
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-slo"
HOURS_A_MONTH: Final = 730
_SERVED: Final = '{route=~"/v1/.*"}'
_FAILED: Final = '{route=~"/v1/.*", status_class="5xx"}'
_ANSWER: Final = "trellis_time_to_answer_seconds"
_TARGET_STEPS: Final = ((0.0, "green"), (0.8, "orange"), (1.0, "red"))


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: SLOs",
        "Are users served, as the phase promises? The first line answers it: green is kept, red is broken.",
        tags=["slo"],
        rows=[
            Row("Are users served?", _tiles()),
            Row("Against the targets", _targets()),
            Row("What is left of the month's budgets", _budgets()),
            Row("What fails, and who was told", _culprits()),
            Row("Where time and money go", _spending()),
        ],
    )


def _tiles() -> list[Panel]:
    return [
        _left("Availability budget", "trellis:availability_budget_left:ratio", "failed requests"),
        _left("Latency budget", "trellis:latency_budget_left:ratio", "answers slower than the p99 target"),
        _tile(
            "Failures / target",
            "Share of requests of the last 5 minutes that failed (5xx of /v1), as a multiple of the share that the "
            "phase allows. Bad: above 1 the month's budget is spent too fast; at 14.4 a page follows within the hour. "
            "Next: 'Routes that fail' below.",
            "max(trellis:availability_errors:ratio_rate5m) / max(trellis:target:failed_share)",
            ((0.0, "green"), (1.0, "orange"), (6.0, "red")),
        ),
        _tile(
            "p50 / target",
            "Typical time to answer, as a multiple of the phase's p50 target. Bad: above 1 half of the users wait "
            "longer than promised. Next: 'Where the time goes' below.",
            f"{_now(0.5)} / max(trellis:target:answer_p50_seconds)",
        ),
        _tile(
            "p99 / target",
            "Time to answer that 1 in 100 exceeds, as a multiple of the phase's p99 target; no data where the phase "
            "promises none. Bad: above 1. Next: 'Where the time goes' below, then the exemplars of trellis-api.",
            f"{_now(0.99)} / max(trellis:target:answer_p99_seconds)",
        ),
        _tile(
            "Own share / target",
            "p99 of a decision's time without its model calls, as a multiple of the target. Bad: above 1 the delay "
            "is ours, not the model's. Next: trellis-api (event loop, database), trellis-stores.",
            f"{quantile(0.99, 'trellis_own_share_seconds')} / max(trellis:target:own_share_p99_seconds)",
        ),
        _tile(
            "Spend / budget",
            "Cost of model calls of the last hour, if it went on for a month, as a multiple of the phase's budget. "
            "Bad: above 1. Next: 'Cost against the budget' below, then trellis-model.",
            f"sum(increase(trellis_model_cost_usd_total[1h])) * {HOURS_A_MONTH} / max(trellis:target:budget_usd_month)",
        ),
        stat(
            "Pages firing",
            "Alerts that wake a person and fire now. Bad: any. Next: 'Alerts that fire' below leads to the runbook.",
            "none",
            Query('count(ALERTS{alertstate="firing", severity="page"}) or vector(0)'),
            width=3,
            steps=((0.0, "green"), (1.0, "red")),
        ),
    ]


def _left(title: str, recorded: str, what: str) -> Panel:
    return stat(
        title,
        f"What is left of the {what} that the phase allows in 30 days: 100 % is untouched, below 0 the promise is "
        "broken. Bad: under 25 %. Next: 'Burn rate by window' says how fast it goes.",
        "percentunit",
        Query(recorded),
        width=3,
        decimals=0,
        steps=((-1.0, "red"), (0.0, "orange"), (0.25, "green")),
    )


def _tile(title: str, description: str, expr: str, steps: tuple[tuple[float, str], ...] = _TARGET_STEPS) -> Panel:
    return stat(title, description, "none", Query(expr), width=3, decimals=2, steps=steps)


def _now(part: float) -> str:
    return quantile(part, _ANSWER)


def _targets() -> list[Panel]:
    return [
        series(
            "Failed requests",
            "Share of requests to /v1 that ended in 5xx; what a client did wrong (4xx) does not count. Bad: above the "
            "line for long. Next: 'Routes that fail', the runbook of AvailabilityBudgetBurn.",
            "percentunit",
            Query("trellis:availability_errors:ratio_rate5m", "5 minutes"),
            Query("trellis:availability_errors:ratio_rate1h", "1 hour"),
            target="trellis:target:failed_share",
        ),
        _time("Typical time to answer (p50)", 0.5, "trellis:target:answer_p50_seconds"),
        _time("Slowest answers (p99)", 0.99, "trellis:target:answer_p99_seconds"),
    ]


def _time(title: str, part: float, target: str) -> Panel:
    return series(
        title,
        f"Time from a question to its answer, or to the first piece where it is streamed, that {part:.0%} stay "
        "under, for each pack; cached answers count. Dots are traces. Bad: above the line. Next: 'Where the time "
        "goes', trellis-model.",
        "s",
        Query(_now(part), "all"),
        Query(quantile(part, _ANSWER, "pack"), "{{pack}}"),
        target=target,
        exemplars=True,
    )


def _budgets() -> list[Panel]:
    burn = "max(trellis:availability_errors:ratio_rate{}) / max(trellis:target:failed_share)"
    return [
        series(
            "Budgets left",
            "What is left of the month's failed requests, slow answers and slow decisions. Bad: a steep fall, "
            "or below 0. Next: a fall that began at a deployment (blue line) belongs to trellis-release.",
            "percentunit",
            Query("trellis:availability_budget_left:ratio", "availability"),
            Query("trellis:latency_budget_left:ratio", "latency"),
            Query("trellis:own_share_budget_left:ratio", "own share"),
            target="vector(0)",
            target_name="spent",
            minimum=None,
            maximum=1,
        ),
        series(
            "Burn rate by window",
            "How many times faster than allowed requests fail. 1 spends the budget in exactly 30 days. Bad: 14.4 over "
            "1 h or 6 over 6 h pages; 3 over a day or 1 over 3 days makes a ticket. Next: 'Routes that fail'.",
            "none",
            *(Query(burn.format(window), window) for window in ("1h", "6h", "1d", "3d")),
            target="vector(1)",
            target_name="sustainable",
        ),
        series(
            "Requests to /v1",
            "Requests a second by class of status. Bad: red (5xx), or a sudden fall to nothing while users are there. "
            "Next: trellis-api for the route.",
            "reqps",
            Query(rate("trellis_http_requests_total", "status_class", where=_SERVED), "{{status_class}}"),
            stacked=True,
            judged=True,
        ),
    ]


def _culprits() -> list[Panel]:
    failed = increase("trellis_http_requests_total", "route", where=_FAILED)
    return [
        table(
            "Routes that fail",
            "Routes with failed requests in the time shown, the one with most first. Bad: any that is still among "
            "'Failed share by route'. Next: trellis-api with this route chosen, then its traces.",
            Query(f"sort_desc(round({failed}) > 0)", "failed"),
            Query(
                f"{share(failed, increase('trellis_http_requests_total', 'route', where=_SERVED))} > 0", "share of all"
            ),
            width=8,
            columns={"route": "string", "failed": "short", "share of all": "percentunit"},
        ),
        table(
            "Packs",
            "Each pack's answers: how many, how slow, how much money. Bad: a p99 over the target. Next: "
            "trellis-agent with this pack.",
            Query(rate(f"{_ANSWER}_count", "pack"), "answers/s"),
            Query(quantile(0.99, _ANSWER, "pack"), "p99"),
            Query(f"{rate('trellis_run_cost_usd_total', 'pack')} * 3600", "USD/h"),
            width=8,
            columns={"pack": "string", "answers/s": "reqps", "p99": "s", "USD/h": "currencyUSD"},
        ),
        table(
            "Alerts that fire",
            "What the rules say is wrong. A click on the name opens the runbook. Bad: severity page. Next: the "
            "runbook's first step.",
            Query('max by (alertname, severity, team) (ALERTS{alertstate="firing", severity!="none"})', "firing"),
            width=8,
            columns={"alertname": "string", "severity": "string", "team": "string"},
            links={"alertname": LINKS.runbook("${__value.raw}")},
        ),
    ]


def _spending() -> list[Panel]:
    return [
        series(
            "Own share of a decision (p99)",
            "A decision's time without its model calls, for each pack. Bad: above the line. Next: trellis-api (event "
            "loop lag, waits for a connection), trellis-stores.",
            "s",
            Query(quantile(0.99, "trellis_own_share_seconds", "pack"), "{{pack}}"),
            target="trellis:target:own_share_p99_seconds",
        ),
        series(
            "Where the time goes",
            "Seconds of work in each second: what model calls, tools, retrieval and our own share of decisions take. "
            "Bad: one part grows while requests do not. Next: trellis-model, or trellis-agent for tools and retrieval.",
            "short",
            Query(rate("trellis_model_call_duration_seconds_sum"), "model"),
            Query(rate("trellis_tool_duration_seconds_sum"), "tools"),
            Query(rate("trellis_retrieval_duration_seconds_sum"), "retrieval"),
            Query(rate("trellis_own_share_seconds_sum"), "own share"),
            stacked=True,
        ),
        series(
            "Cost against the budget",
            "US dollars an hour for each pack's model calls; the line is the phase's monthly budget as an hour. Bad: "
            "above the line for long. Next: trellis-model (tokens, fallbacks), the runbook of CostAboveBudget.",
            "currencyUSD",
            Query(f"{rate('trellis_run_cost_usd_total', 'pack')} * 3600", "{{pack}}"),
            target=f"trellis:target:budget_usd_month / {HOURS_A_MONTH}",
            target_name="budget",
            stacked=True,
        ),
    ]
