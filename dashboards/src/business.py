"""What the agents are for: leads, answers, decisions, how good they are and what they cost."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, label_variable, series, stat
from dashboards.src.promql import increase, quantile, rate, share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-business"
_PACK: Final = '{pack=~"$pack"}'
_LEADS: Final = '{pack="leads"}'
_COST: Final = "trellis_run_cost_usd_total"
_RECEIVED: Final = "trellis_leads_received_total"
_OUTCOMES: Final = "trellis_lead_outcomes_total"
_DECISIONS: Final = "trellis_decisions_total"
_FEEDBACK: Final = "trellis_answer_feedback_total"
_REVIEWS: Final = "trellis_decision_reviews_total"
_ESCALATIONS: Final = "trellis_escalations_total"


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: business",
        "What the agents bring: leads and conversion, answers that help, decisions that were right, and their cost.",
        tags=["business"],
        since="now-7d",
        variables=[label_variable("pack", "pack", "trellis_time_to_answer_seconds_count")],
        rows=[
            Row("In the time shown", _figures()),
            Row("Leads", [*_leads(), *_handled()]),
            Row("Quality", _quality()),
            Row("Drift", _drift()),
            Row("Clients of teams", _teams()),
        ],
    )


def _shown(metric: str, label: str, where: str = "") -> str:
    """The share of a counter's growth in the time shown that has a label's value; `where` without braces."""
    part = increase(metric, where="{" + ", ".join(filter(None, (label, where))) + "}")
    return share(f"({part} or vector(0))", increase(metric, where="{" + where + "}"))


def _figures() -> list[Panel]:
    here = 'pack=~"$pack"'
    return [
        stat(
            "Leads received",
            "Leads taken in. Bad: none in working hours. Next: 'Leads by source', the sender's integration.",
            "none",
            Query(increase(_RECEIVED)),
            decimals=0,
        ),
        stat(
            "Conversion",
            "Share of reported outcomes that converted. Bad: a fall from the months before. Next: 'Outcomes'.",
            "percentunit",
            Query(_shown(_OUTCOMES, 'kind="converted"')),
            decimals=1,
        ),
        stat(
            "Helpful answers (CSAT)",
            "Share of judged answers that helped. Bad: under 80 %. Next: trellis-agent (score of the best chunk).",
            "percentunit",
            Query(_shown(_FEEDBACK, 'helpful="true"', here)),
            decimals=0,
        ),
        stat(
            "Decision accuracy",
            "Share of judged decisions that were right. Bad: under 90 %. Next: 'Accuracy by pack'.",
            "percentunit",
            Query(_shown(_REVIEWS, 'verdict="right"', here)),
            decimals=0,
        ),
        stat(
            "Escalation precision",
            "Share of escalations that a person found necessary. Bad: under 80 %: people are asked for nothing. Next: "
            "'Escalations'.",
            "percentunit",
            Query(_shown(_ESCALATIONS, 'necessary="true"')),
            decimals=0,
        ),
        stat(
            "Cost of a lead",
            "US dollars of model calls for each decision on a lead. Bad: a jump. Next: 'Cost of a lead over time', "
            "trellis-model.",
            "currencyUSD",
            Query(share(increase(_COST, where=_LEADS), increase(_DECISIONS, where=_LEADS))),
            decimals=4,
        ),
    ]


def _leads() -> list[Panel]:
    return [
        series(
            "Leads by source",
            "Leads an hour by how they came in touch. Bad: a source falls to nothing: its integration broke. Next: "
            "the 4xx of its route in trellis-api.",
            "short",
            Query(f"{rate(_RECEIVED, 'source')} * 3600", "{{source}}"),
            target="trellis:target:leads_month / 730",
            target_name="what the phase carries",
            stacked=True,
        ),
        series(
            "Outcomes",
            "Outcomes reported, in each step. Bad: lost grows against converted. Next: 'Time to first response'.",
            "short",
            Query(increase(_OUTCOMES, "kind", window="$__rate_interval"), "{{kind}}"),
            stacked=True,
        ),
        series(
            "Time to first response",
            "Time from a lead's arrival to the first answer sent to it. Bad: the slowest tenth above 5 minutes: leads "
            "cool. Next: trellis-jobs (oldest job), 'Approvals pending' in trellis-agent.",
            "s",
            Query(quantile(0.5, "trellis_first_response_seconds"), "median"),
            Query(quantile(0.9, "trellis_first_response_seconds"), "slowest tenth"),
        ),
    ]


def _handled() -> list[Panel]:
    return [
        series(
            "Decisions by action",
            "Decisions an hour by what was decided. Bad: one action takes over: the prompt or the data changed. Next: "
            "'Confidence', trellis-release.",
            "short",
            Query(f"{rate(_DECISIONS, 'pack', 'action', where=_PACK)} * 3600", "{{pack}} {{action}}"),
            stacked=True,
        ),
        series(
            "Cost of a lead over time",
            "US dollars of model calls for each decision on a lead. Bad: a step at a deployment (blue line). Next: "
            "trellis-model (tokens of a call, spared by caches).",
            "currencyUSD",
            Query(share(rate(_COST, where=_LEADS), rate(_DECISIONS, where=_LEADS)), "a lead"),
        ),
        series(
            "Escalations",
            "Escalations in each step, by a person's judgement. Bad: unnecessary ones grow. Next: 'Confidence': is "
            "the agent unsure of more?",
            "short",
            Query(increase(_ESCALATIONS, "necessary", window="$__rate_interval"), "necessary: {{necessary}}"),
            stacked=True,
        ),
    ]


def _quality() -> list[Panel]:
    right = rate(_REVIEWS, "pack", where='{pack=~"$pack", verdict="right"}')
    helpful = rate(_FEEDBACK, "pack", where='{pack=~"$pack", helpful="true"}')
    return [
        series(
            "Accuracy by pack",
            "Share of judged decisions that were right. Bad: a fall. Next: the judged decisions in the console; "
            "trellis-release.",
            "percentunit",
            Query(share(right, rate(_REVIEWS, "pack", where=_PACK)), "{{pack}}"),
            maximum=1,
        ),
        series(
            "Helpful answers by pack",
            "Share of judged answers that helped (CSAT). Bad: a fall. Next: trellis-agent (retrieval).",
            "percentunit",
            Query(share(helpful, rate(_FEEDBACK, "pack", where=_PACK)), "{{pack}}"),
            maximum=1,
        ),
        series(
            "Judged decisions",
            "Decisions that were judged, in each step: how much the accuracy is worth. Bad: none for days. Next: "
            "whoever reviews.",
            "short",
            Query(
                increase(_REVIEWS, "pack", "verdict", where=_PACK, window="$__rate_interval"), "{{pack}} {{verdict}}"
            ),
            stacked=True,
        ),
    ]


def _drift() -> list[Panel]:
    return [
        _against_last_week(
            "Scores of leads",
            "trellis_lead_score",
            "other leads than before, or a changed prompt. Next: 'Leads by source'",
        ),
        _against_last_week(
            "Confidence", "trellis_decision_confidence", "the agent is less sure. Next: trellis-release, trellis-model"
        ),
        _against_last_week(
            "Fit of evidence",
            "trellis_retrieval_score",
            "questions that the documents do not answer. Next: trellis-agent (retrieval)",
        ),
    ]


def _against_last_week(title: str, metric: str, bad: str) -> Panel:
    before = f"histogram_quantile(0.5, sum by (le) (rate({metric}_bucket[$__rate_interval] offset 1w)))"
    return series(
        title,
        f"Median, lowest tenth, and the median of the same hour a week ago. Bad: the median leaves last week's: {bad}.",
        "percentunit",
        Query(quantile(0.5, metric), "median"),
        Query(quantile(0.1, metric), "lowest tenth"),
        Query(before, "median a week ago"),
        maximum=1,
    )


def _teams() -> list[Panel]:
    return [
        series(
            "Health scores of clients",
            "Scores stored, in each step, by what they came to. Bad: at_risk grows. Next: the clients' page in the "
            "console.",
            "short",
            Query(increase("trellis_teams_health_scores_total", "state", window="$__rate_interval"), "{{state}}"),
            width=12,
            stacked=True,
        ),
        series(
            "Time of a team's answer",
            "Time from a question to a team to its answer, p99 of each team. Bad: above a minute. Next: trellis-jobs "
            "(questions to teams).",
            "s",
            Query(quantile(0.99, "trellis_teams_question_duration_seconds", "team"), "{{team}}"),
            width=12,
        ),
    ]
