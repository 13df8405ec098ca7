"""All regions side by side, for the Prometheus above them: it has only what the rules of each region recorded."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, series, stat, states, table
from infra.phases import Phase

UID: Final = "trellis-regions"
_HERE: Final = '{region=~"$region"}'
_BY: Final = "{{region}}"
_LEFT: Final = "trellis:global_availability_budget_left:ratio"


def used(phase: Phase) -> bool:
    """Where there are several regions."""
    return len(phase.fleet.regions) > 1


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: regions",
        "Which region serves, and which should be drained. Choose the Prometheus above all regions as the source.",
        tags=["slo", "regions"],
        variables=[label_variable("region", "region", "trellis:api_processes:count")],
        rows=[
            Row("Is it healthy", [*_together(), *_worst()]),
            Row("Which region to drain", _choice()),
            Row("Users and money", [*_users(), *_budgets()]),
            Row("Where each region is short", _short()),
            Row("Database between regions", _database()),
        ],
    )


def _together() -> list[Panel]:
    return [
        stat(
            "Regions that serve",
            "Regions in which some API process answers. Fewer than the phase has: one is down, or its Prometheus "
            "cannot be reached. See State of each region.",
            "short",
            Query("count(trellis:api_processes:count > 0)"),
            steps=[(0, "red"), (2, "yellow"), (3, "green")],
        ),
        stat(
            "Budget left, all regions",
            "What is left of the 30 days' error budget of all regions together. Below 0 the promise is broken: see "
            "Availability budget for the region that spent it.",
            "percentunit",
            Query(f"max({_LEFT})"),
            steps=[(0, "red"), (0.25, "yellow"), (0.5, "green")],
        ),
        stat(
            "Failed now, all regions",
            "Share of requests that failed in the last 5 minutes, all regions together. See Failed requests.",
            "percentunit",
            Query("max(trellis:global_availability_errors:ratio_rate5m)"),
            steps=[(0, "green"), (0.001, "yellow"), (0.01, "red")],
            decimals=2,
        ),
    ]


def _worst() -> list[Panel]:
    return [
        stat(
            "Least budget of a region",
            "Error budget of the region that has least left. One far below the others is the one to drain.",
            "percentunit",
            Query("min(trellis:availability_budget_left:ratio)"),
            steps=[(0, "red"), (0.25, "yellow"), (0.5, "green")],
        ),
        stat(
            "Slow answers, worst region",
            "Share of answers of the last 5 minutes over the p99 target in the worst region. 1 % is promised.",
            "percentunit",
            Query("max(trellis:latency_slow:ratio_rate5m)"),
            steps=[(0, "green"), (0.01, "yellow"), (0.05, "red")],
        ),
        stat(
            "Database lag between regions",
            "How far the furthest region's copy of the data is behind the writer's. Over 5 s, that much work is lost "
            "if the writer's region is: do not fail over by hand while it grows.",
            "s",
            Query("max(trellis:region_lag_seconds:max)"),
            steps=[(0, "green"), (2, "yellow"), (5, "red")],
        ),
    ]


def _choice() -> list[Panel]:
    pages = 'count by (region) (ALERTS{alertstate="firing", severity="page", region=~"$region"})'
    return [
        states(
            "State of each region",
            "Red: no API process answers. Grey: nothing heard of the region, its Prometheus or the way to it is gone. "
            "What to do: runbook of the alert RegionDown.",
            Query(f"min by (region) (trellis:api_processes:count{_HERE} > bool 0)", _BY),
            colours={0: ("down", "red"), 1: ("serves", "green")},
            width=10,
            height=8,
        ),
        table(
            "Regions now",
            "Drain the region whose failures or slow answers stand out while the others have room (most pods used "
            "well under 100 %). All of them bad: it is not a region, see trellis-slo.",
            Query(f"max by (region) (trellis:availability_errors:ratio_rate5m{_HERE})", "failed"),
            Query(f"max by (region) (trellis:latency_slow:ratio_rate5m{_HERE})", "slow"),
            Query(f"min by (region) (trellis:availability_budget_left:ratio{_HERE})", "budget left"),
            Query(f"max by (region) (trellis:autoscaler_used:ratio{_HERE})", "most pods used"),
            Query(pages, "pages firing"),
            columns={
                "region": "string",
                "failed": "percentunit",
                "slow": "percentunit",
                "budget left": "percentunit",
                "most pods used": "percentunit",
                "pages firing": "short",
            },
            width=14,
        ),
    ]


def _users() -> list[Panel]:
    return [
        series(
            "Requests",
            "Requests a second of each region. One that falls while another rises: its users are being sent away.",
            "reqps",
            Query(f"sum by (region) (trellis:requests:rate5m{_HERE})", _BY),
            stacked=True,
        ),
        series(
            "Failed requests",
            "Share of failed requests of the last 5 minutes, against what 30 days allow.",
            "percentunit",
            Query(f"max by (region) (trellis:availability_errors:ratio_rate5m{_HERE})", _BY),
            target="max(trellis:target:failed_share)",
        ),
        series(
            "Slow answers",
            "Share of answers of the last 5 minutes that were slower than the p99 target. 1 % is promised. All regions "
            "at once: the model, or a release.",
            "percentunit",
            Query(f"max by (region) (trellis:latency_slow:ratio_rate5m{_HERE})", _BY),
            target="vector(0.01)",
        ),
    ]


def _budgets() -> list[Panel]:
    return [
        series(
            "Availability budget",
            "Left of the error budget of 30 days. A step down is an incident; a slope is failures that trickle in.",
            "percentunit",
            Query(f"min by (region) (trellis:availability_budget_left:ratio{_HERE})", _BY),
            Query(f"max({_LEFT})", "all together"),
            minimum=None,
        ),
        series(
            "Latency budget",
            "Left of the 30 days' budget of slow answers.",
            "percentunit",
            Query(f"min by (region) (trellis:latency_budget_left:ratio{_HERE})", _BY),
            minimum=None,
        ),
        series(
            "Cost of models",
            "US dollars an hour, from the last hour, against an hour's share of the region's budget.",
            "currencyUSD",
            Query(f"sum by (region) (trellis:model_cost_usd_per_hour:rate1h{_HERE})", _BY),
            target="max(trellis:target:budget_usd_month) / 730",
        ),
    ]


def _short() -> list[Panel]:
    return [
        series(
            "Autoscalers at their most",
            "Replicas of the fullest autoscaler of each region, as a share of its most. A drained region's users need "
            "room in the others: under 67 % in each of three.",
            "percentunit",
            Query(f"max by (region) (trellis:autoscaler_used:ratio{_HERE})", _BY),
            maximum=1,
        ),
        series(
            "Parts that do not answer",
            "Share of a job's targets that are down, where any are. The same part in all regions: a release or a "
            "certificate.",
            "percentunit",
            Query(f"1 - min by (region, job) (trellis:up:ratio{_HERE}) > 0", "{{region}} {{job}}"),
            maximum=1,
        ),
        series(
            "Open breakers",
            "Models and tools that a region leaves alone because they failed. In one region: its way to the provider.",
            "short",
            Query(f"sum by (region) (trellis:breakers_open:count{_HERE})", _BY),
        ),
    ]


def _database() -> list[Panel]:
    return [
        series(
            "Lag of each region's copy",
            "How far each following region is behind the writer's region, as the database says. It follows the writes: "
            "one that only grows is cut off.",
            "s",
            Query("max by (aws_region) (trellis:region_lag_seconds:max)", "{{aws_region}}"),
        ),
        series(
            "Lag of readers within a region",
            "The slowest reader of each region. Above 5 s its reads go to the writer, far away for all regions "
            "but its own.",
            "s",
            Query(f"max by (region) (trellis:replica_lag_seconds:max{_HERE})", _BY),
        ),
        series(
            "Reads answered near by",
            "Share of the app's reads that a reader of the region answered. The rest waits for the writer's region.",
            "percentunit",
            Query(f"min by (region) (trellis:reads_near:ratio_rate5m{_HERE})", _BY),
            maximum=1,
        ),
    ]
