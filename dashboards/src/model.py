"""Model calls: how slow, how often they fail, what is done about it, and what they cost."""

from typing import Final

from dashboards.src.house import (
    Dashboard,
    Panel,
    Query,
    Row,
    board,
    heatmap,
    label_variable,
    series,
    stat,
    states,
)
from dashboards.src.promql import increase, quantile, rate, share
from dashboards.src.slo import HOURS_A_MONTH
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-model"
_HERE: Final = '{provider=~"$provider"}'
_BAD: Final = '{provider=~"$provider", outcome=~"error|timeout|rate_limited"}'
_CALL: Final = "trellis_model_call_duration_seconds"
_COST: Final = "trellis_model_cost_usd_total"
_BUDGET: Final = "max(trellis:target:budget_usd_month)"


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: models and cost",
        "Whether the model providers answer, how fast, what the app does when they do not, and what it costs.",
        tags=["application", "models"],
        variables=[label_variable("provider", "provider", f"{_CALL}_count")],
        rows=[
            Row("Now", _now()),
            Row("Time", _time()),
            Row("Failures, and what is done about them", _failures()),
            Row("Breakers", _breakers()),
            Row("Tokens and money", [*_tokens(), *_money()]),
        ],
    )


def _now() -> list[Panel]:
    return [
        stat(
            "Calls",
            "Calls to model providers a second. Bad: none while questions arrive. Next: 'State of each breaker'.",
            "reqps",
            Query(rate(f"{_CALL}_count", where=_HERE)),
        ),
        stat(
            "Failed calls",
            "Share of calls that ended in an error, a timeout or a provider's rate limit. Bad: above 5 %. Next: "
            "'Calls by outcome'.",
            "percentunit",
            Query(share(f"({rate(f'{_CALL}_count', where=_BAD)} or vector(0))", rate(f"{_CALL}_count", where=_HERE))),
            steps=((0.0, "green"), (0.02, "orange"), (0.05, "red")),
            decimals=1,
        ),
        stat(
            "Call p99",
            "Time that 1 in 100 calls exceeds. Bad: far above its level of yesterday. Next: 'Call time by provider'.",
            "s",
            Query(quantile(0.99, _CALL, where=_HERE)),
        ),
        stat(
            "Breakers open",
            "Providers and tools that are left alone now because they failed. Bad: any. Next: 'State of each breaker'.",
            "none",
            Query("count(max by (name) (trellis_breaker_state) == 2) or vector(0)"),
            steps=((0.0, "green"), (1.0, "red")),
        ),
        stat(
            "Cost an hour",
            "US dollars of the last hour's model calls. Bad: see 'Spend / budget'. Next: 'Cost by pack'.",
            "currencyUSD",
            Query(f"sum(increase({_COST}{_HERE}[1h]))"),
        ),
        stat(
            "Spend / budget",
            "What the last hour's cost comes to in a month, as a multiple of the phase's budget. Bad: above 1. Next: "
            "'Cost by pack', 'Tokens of a call (p99)', the runbook of CostAboveBudget.",
            "none",
            Query(f"sum(increase({_COST}[1h])) * {HOURS_A_MONTH} / {_BUDGET}"),
            steps=((0.0, "green"), (0.8, "orange"), (1.0, "red")),
            decimals=2,
        ),
    ]


def _time() -> list[Panel]:
    return [
        series(
            "Call time by provider",
            "p50 and p99 of calls. Dots are traces. Bad: one provider leaves its level. Next: its status page; "
            "'Fallbacks' says whether another takes over.",
            "s",
            Query(quantile(0.5, _CALL, "provider", where=_HERE), "{{provider}} p50"),
            Query(quantile(0.99, _CALL, "provider", where=_HERE), "{{provider}} p99"),
            exemplars=True,
        ),
        series(
            "First token by provider",
            "Time from a streamed call's start to its first piece, p50 and p99: what a user waits for. Bad: above the "
            "phase's p50 target. Next: trellis-vllm where the model is our own.",
            "s",
            Query(quantile(0.5, "trellis_model_first_token_seconds", "provider", where=_HERE), "{{provider}} p50"),
            Query(quantile(0.99, "trellis_model_first_token_seconds", "provider", where=_HERE), "{{provider}} p99"),
            target="trellis:target:answer_p50_seconds",
            target_name="p50 target",
        ),
        heatmap(
            "Call times",
            "Where the times of calls lie: darker is more. Bad: a band at the timeout. Next: 'Calls by outcome'.",
            "s",
            Query(rate(f"{_CALL}_bucket", "le", where=_HERE)),
            width=8,
        ),
    ]


def _failures() -> list[Panel]:
    return [
        series(
            "Calls by outcome",
            "Calls a second by how they ended. Bad: error, timeout, rate_limited. Next: choose a provider above; the "
            "traces of failed calls hold the provider's answer.",
            "reqps",
            Query(rate(f"{_CALL}_count", "outcome", where=_HERE), "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Fallbacks",
            "Calls a second that went on to the next provider of their route. Bad: any that last: answers cost and "
            "take something else than planned. Next: 'State of each breaker'.",
            "reqps",
            Query(rate("trellis_model_fallbacks_total", "route"), "{{route}}"),
        ),
        series(
            "Retries",
            "Failed calls a second that were worth another attempt: made, or withheld because the provider's retry "
            "budget was spent. Bad: withheld. Next: the provider's limits.",
            "reqps",
            Query(rate("trellis_model_retries_total", "provider", "result", where=_HERE), "{{provider}} {{result}}"),
            stacked=True,
        ),
    ]


def _breakers() -> list[Panel]:
    return [
        states(
            "State of each breaker",
            "Whether a provider or tool is called. Open: it failed too often and is left alone; half open: one call "
            "tries it. Bad: red. Next: the runbook of BreakerOpen.",
            Query("max by (name) (trellis_breaker_state)", "{{name}}"),
            width=16,
            height=7,
            colours={0.0: ("closed", "green"), 1.0: ("half open", "orange"), 2.0: ("open", "red")},
        ),
        series(
            "Breakers that opened",
            "Times that each breaker opened, in each step. Bad: again and again, the far side comes and goes. Next: "
            "'Calls by outcome' of that provider.",
            "short",
            Query(increase("trellis_breaker_opened_total", "name", window="$__rate_interval"), "{{name}}"),
            height=7,
        ),
    ]


def _tokens() -> list[Panel]:
    tokens = rate("trellis_model_tokens_total", "direction", where=_HERE)
    return [
        series(
            "Tokens",
            "Tokens a second into models, out of them, and those that the provider had cached. Bad: input grows while "
            "calls do not: prompts or evidence became longer. Next: 'Tokens of a call (p99)'.",
            "short",
            Query(tokens, "{{direction}}"),
            stacked=True,
        ),
        series(
            "Tokens of a call (p99)",
            "Tokens that 1 in 100 calls exceeds. Bad: a step at a deployment (blue line). Next: trellis-release, the "
            "prompts of that version.",
            "short",
            Query(quantile(0.99, "trellis_model_call_tokens", "direction", where=_HERE), "{{direction}}"),
        ),
        series(
            "Refused because a budget was spent",
            "Runs a second that were refused: the request's own budget, or the tenant's of the month. Bad: a tenant "
            "that should go on. Next: its budget in the console.",
            "reqps",
            Query(rate("trellis_budget_refusals_total", "scope"), "{{scope}}"),
        ),
    ]


def _money() -> list[Panel]:
    return [
        series(
            "Cost by provider",
            "US dollars an hour. Bad: a dear provider takes over ('Fallbacks'). Next: 'State of each breaker'.",
            "currencyUSD",
            Query(f"{rate(_COST, 'provider', where=_HERE)} * 3600", "{{provider}}"),
            stacked=True,
        ),
        series(
            "Cost by pack",
            "US dollars an hour; the line is the phase's monthly budget as an hour. Bad: above the line for long. "
            "Next: trellis-agent (steps), 'Spared by caches'.",
            "currencyUSD",
            Query(f"{rate('trellis_run_cost_usd_total', 'pack')} * 3600", "{{pack}}"),
            target=f"{_BUDGET} / {HOURS_A_MONTH}",
            target_name="budget",
            stacked=True,
        ),
        series(
            "Spared by caches",
            "US dollars an hour of model calls that a cache made needless. Bad: a fall to 0: the cache is off, empty "
            "or away. Next: trellis-agent ('Hits of caches'), trellis-stores.",
            "currencyUSD",
            Query(f"{rate('trellis_cache_saved_usd_total', 'cache')} * 3600", "{{cache}}"),
            stacked=True,
        ),
    ]
