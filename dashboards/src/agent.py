"""Agent runs: their steps, tools, people's approvals, retrieval, answer caches and MCP."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, series, stat
from dashboards.src.promql import increase, mean, quantile, rate, share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-agent"
_AGENT: Final = '{agent=~"$agent"}'
_FAILED: Final = '{agent=~"$agent", outcome=~"failed|timeout"}'
_RUN: Final = "trellis_agent_run_duration_seconds"
_ANSWERS: Final = "trellis_answers_total"
_LOOKUPS: Final = "trellis_cache_requests_total"


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: agents and retrieval",
        "What agents do with a question: model turns, tools, approvals, evidence, and answers that were kept.",
        tags=["application", "agents"],
        variables=[
            label_variable("agent", "agent", f"{_RUN}_count"),
            label_variable("pack", "pack", _ANSWERS),
        ],
        rows=[
            Row("Now", _now()),
            Row("Runs", _runs()),
            Row("Tools", _tools()),
            Row("Retrieval", _retrieval()),
            Row("Answers", _answers()),
            Row("MCP, and evidence kept out", _mcp()),
        ],
    )


def _now() -> list[Panel]:
    return [
        stat(
            "Runs",
            "Agent runs a second. Bad: none while questions arrive. Next: trellis-model, the kill switches of "
            "trellis-release.",
            "reqps",
            Query(rate(f"{_RUN}_count", where=_AGENT)),
        ),
        stat(
            "Failed runs",
            "Share of runs that failed or ran out of time. Bad: above 1 %. Next: 'Runs by outcome'.",
            "percentunit",
            Query(share(f"({rate(f'{_RUN}_count', where=_FAILED)} or vector(0))", rate(f"{_RUN}_count", where=_AGENT))),
            steps=((0.0, "green"), (0.01, "orange"), (0.05, "red")),
            decimals=1,
        ),
        stat(
            "Steps of a run",
            "Mean number of model turns of a run. Bad: a rise: each step costs money and time. Next: 'Steps'.",
            "none",
            Query(mean("trellis_agent_steps")),
            decimals=1,
        ),
        stat(
            "Approvals pending",
            "Tool calls that wait for a person. Bad: grows over hours. Next: the console's list of approvals.",
            "none",
            Query("max(trellis_approvals_pending)"),
        ),
        stat(
            "Effects parked",
            "Effects of tools of which nobody knows whether they happened. Bad: any: a person must look. Next: "
            "the console's list of parked effects.",
            "none",
            Query("max(trellis_effects_parked)"),
            steps=((0.0, "green"), (1.0, "red")),
        ),
        stat(
            "Refused answers",
            "Share of turns that were refused, for want of evidence or by a rule. Bad: a jump. Next: 'Score of the "
            "best chunk'.",
            "percentunit",
            Query(share(f"({rate(_ANSWERS, where=_pack('refused'))} or vector(0))", rate(_ANSWERS, where=_pack()))),
            decimals=1,
        ),
    ]


def _pack(outcome: str = "") -> str:
    return '{pack=~"$pack"' + (f', outcome="{outcome}"' if outcome else "") + "}"


def _runs() -> list[Panel]:
    return [
        series(
            "Runs by outcome",
            "Agent runs a second by how they ended. Bad: failed, timeout. Next: the run's trace by the exemplars "
            "beside it.",
            "reqps",
            Query(rate(f"{_RUN}_count", "outcome", where=_AGENT), "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Time of a run (p99)",
            "Time that 1 in 100 runs exceeds, model and tools included. Dots are traces. Bad: one agent leaves its "
            "level. Next: its trace: is it the model, a tool or retrieval?",
            "s",
            Query(quantile(0.99, _RUN, "agent", where=_AGENT), "{{agent}}"),
            exemplars=True,
        ),
        series(
            "Steps",
            "Model turns of a run. Bad: p99 at the limit of steps: agents go in circles. Next: a trace of a long run; "
            "which tool is called again and again?",
            "short",
            Query(mean("trellis_agent_steps"), "mean"),
            Query(quantile(0.99, "trellis_agent_steps"), "p99"),
        ),
    ]


def _tools() -> list[Panel]:
    return [
        series(
            "Tool calls by outcome",
            "Calls a second. 'parked' is of unknown fate, 'denied' was not allowed. Bad: failed, parked. Next: 'Tool "
            "calls that failed'.",
            "reqps",
            Query(rate("trellis_tool_calls_total", "outcome"), "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Tool calls that failed",
            "Calls a second of each tool that failed or were parked. Bad: one tool stands out: its far side is away. "
            "Next: its breaker in trellis-model.",
            "reqps",
            Query(rate("trellis_tool_calls_total", "tool", where='{outcome=~"failed|parked"}'), "{{tool}}"),
        ),
        series(
            "Time of a tool call (p99)",
            "Time that 1 in 100 calls of a tool exceeds, retries included. Bad: a tool near its timeout. Next: the far "
            "side of that tool.",
            "s",
            Query(quantile(0.99, "trellis_tool_duration_seconds", "tool"), "{{tool}}"),
        ),
    ]


def _retrieval() -> list[Panel]:
    score = "trellis_retrieval_score"
    return [
        series(
            "Retrievals by result",
            "Retrievals a second: found evidence, none, or failed. Bad: error; a rise of empty. Next: trellis-stores "
            "(Qdrant), the documents of trellis-jobs.",
            "reqps",
            Query(rate("trellis_retrieval_requests_total", "result"), "{{result}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Time of a retrieval",
            "Embedding and search, cache included. Bad: p99 above 100 ms. Next: trellis-stores.",
            "s",
            Query(quantile(0.5, "trellis_retrieval_duration_seconds"), "p50"),
            Query(quantile(0.99, "trellis_retrieval_duration_seconds"), "p99"),
        ),
        series(
            "Score of the best chunk",
            "How well the best evidence fits a question, from 0 to 1: the median and the worst tenth. Bad: a fall: "
            "other questions than the documents answer, or a broken index. Next: 'Refused answers', last ingestions.",
            "percentunit",
            Query(quantile(0.5, score), "median"),
            Query(quantile(0.1, score), "worst tenth"),
            maximum=1,
        ),
    ]


def _answers() -> list[Panel]:
    hits = rate(_LOOKUPS, "cache", where='{result=~"hit|shared"}')
    return [
        series(
            "Answers by outcome",
            "Turns of conversations a second by how they ended. Bad: failed; a jump of refused. Next: 'Runs by "
            "outcome', 'Score of the best chunk'.",
            "reqps",
            Query(rate(_ANSWERS, "outcome", where=_pack()), "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Answers by cache",
            "Turns a second by what gave the answer: 'none' asked the agent, 'shared' joined a turn under way. Bad: "
            "exact and semantic fall to 0. Next: 'Hits of caches'.",
            "reqps",
            Query(rate(_ANSWERS, "cache", where=_pack()), "{{cache}}"),
            stacked=True,
        ),
        series(
            "Hits of caches",
            "Share of look-ups that each cache answered. Bad: a fall after a deployment: keys changed; or Redis is "
            "away. Next: trellis-stores.",
            "percentunit",
            Query(share(hits, rate(_LOOKUPS, "cache")), "{{cache}}"),
            maximum=1,
        ),
    ]


def _mcp() -> list[Panel]:
    return [
        series(
            "MCP calls by outcome",
            "Tool calls by MCP a second: mounted servers by us, ours ('trellis') by others. Bad: unreachable, timeout, "
            "broken; 'lied' answered against its own schema. Next: that server.",
            "reqps",
            Query(rate("trellis_mcp_calls_total", "server", "outcome"), "{{server}} {{outcome}}"),
            width=12,
            stacked=True,
            judged=True,
        ),
        series(
            "Chunks kept out of evidence",
            "Chunks that carry instructions to the agent and were kept out, in each step. Bad: a burst: somebody "
            "tries to talk the agent into something. Next: the last documents of that bot in the console.",
            "short",
            Query(increase("trellis_quarantined_chunks_total", window="$__rate_interval"), "chunks"),
            width=12,
        ),
    ]
