"""Models, money, jobs and the app's own parts."""

from collections.abc import Iterator, Mapping

from tests.support.alert_cases import Case, Fired, four

RUNBOOKS = "https://git.trellis.example/trellis/runbooks/alerts/"
BOARDS = "https://grafana.trellis.example/d/"
CALLS = "trellis_model_call_duration_seconds"
EVERYWHERE = ("poc", "small", "medium", "multi-region")


def says(
    alert: str, team: str, board: str, summary: str, description: str, severity: str = "ticket", **labels: str
) -> Fired:
    return Fired(
        labels={"severity": severity, "team": team, **labels},
        summary=summary,
        description=description,
        runbook_url=f"{RUNBOOKS}{alert}.md",
        dashboard_url=f"{BOARDS}{board}",
    )


def split(name: str, good: tuple[str, float], bad: tuple[str, float], minutes: int = 60) -> Mapping[str, str]:
    """Two series of one counter: labels, and how much it rises a minute."""
    return {f"{name}{{{labels}}}": f"0+{rise}x{minutes}" for labels, rise in (good, bad)}


def timed(name: str, edge: str, labels: str, quick: float, slow: float, minutes: int = 60) -> Mapping[str, str]:
    """A histogram's series: how many events a minute are within an edge, and how many are not."""
    comma = "," if labels else ""
    return {
        f"{name}_count{{{labels}}}": f"0+{quick + slow}x{minutes}",
        f'{name}_bucket{{{labels}{comma}le="{edge}"}}': f"0+{quick}x{minutes}",
    }


def _calls(good: float, bad: float) -> Mapping[str, str]:
    labels = 'provider="main",route="answer",outcome="{}"'
    return split(f"{CALLS}_count", (labels.format("ok"), good), (labels.format("timeout"), bad))


def _model_slow(name: str, edge: str, over: int, under: int) -> tuple[Case, ...]:
    labels = 'provider="main",route="answer",outcome="ok"'
    said = says(
        "ModelSlow",
        "models",
        "trellis-model",
        f"{over}% of calls to main take longer than a whole answer may",
        "Successful calls of the last 30 minutes against the time that the phase promises for an answer. See the "
        "size of prompts and answers, then the provider.",
        provider="main",
    )
    return four(
        "ModelSlow",
        said,
        sets=[name],
        at="50m",
        fires=timed(CALLS, edge, labels, 100 - over, over),
        under=timed(CALLS, edge, labels, 100 - under, under),
        total=timed(CALLS, edge, labels, 0, 100),
        total_summary="100% of calls to main take longer than a whole answer may",
    )


def _first_token(name: str, edge: str) -> tuple[Case, ...]:
    metric, labels = "trellis_model_first_token_seconds", 'provider="main",route="answer"'
    said = says(
        "ModelFirstTokenSlow",
        "models",
        "trellis-model",
        "60% of streamed calls to main begin too late",
        "Their first piece comes after the time in which half of the answers are promised. See the provider's "
        "queue, and prompts that grew.",
        provider="main",
    )
    return four(
        "ModelFirstTokenSlow",
        said,
        sets=[name],
        at="50m",
        fires=timed(metric, edge, labels, 4, 6),
        under=timed(metric, edge, labels, 51, 49),
        total=timed(metric, edge, labels, 0, 10),
        total_summary="100% of streamed calls to main begin too late",
    )


MODELS = (
    *four(
        "ModelErrors",
        says(
            "ModelErrors",
            "models",
            "trellis-model",
            "20% of calls to main fail",
            "Errors, time-outs and refusals for their rate, over 15 minutes. Routes with another provider still "
            "answer; the others fail their users. See the provider's status, then its limits.",
            provider="main",
        ),
        at="30m",
        fires=_calls(8, 2),
        under=_calls(91, 9),
        total=_calls(0, 10),
        total_summary="100% of calls to main fail",
    ),
    *_model_slow("poc", "3.0", 60, 48),
    *_model_slow("small", "3.0", 6, 4),
    *_model_slow("medium", "2.0", 6, 4),
    *_model_slow("multi-region", "1.0", 6, 4),
    *_first_token("poc", "3.0"),
    *_first_token("small", "1.0"),
    *_first_token("medium", "0.5"),
    *_first_token("multi-region", "0.3"),
    *four(
        "ModelFallbacks",
        says(
            "ModelFallbacks",
            "models",
            "trellis-model",
            "20% of calls of the route answer go on to another provider",
            "Users are answered by a second choice, which may cost more or know less. See why the first provider of "
            "the route fails.",
            route="answer",
        ),
        at="50m",
        fires={**_calls(10, 0), 'trellis_model_fallbacks_total{route="answer"}': "0+2x60"},
        under={**_calls(100, 0), 'trellis_model_fallbacks_total{route="answer"}': "0+9x60"},
        total={**_calls(10, 10), 'trellis_model_fallbacks_total{route="answer"}': "0+10x60"},
        total_summary="50% of calls of the route answer go on to another provider",
    ),
    *four(
        "ModelRetriesWithheld",
        says(
            "ModelRetriesWithheld",
            "models",
            "trellis-model",
            "5 calls to main were not tried again",
            "Their provider's retry budget was spent, so that retries would not make its trouble worse. So many "
            "failures are no accident: see the provider's errors.",
            provider="main",
        ),
        at="30m",
        # The series is born with its first five: a rate would never see them.
        fires={'trellis_model_retries_total{provider="main",result="withheld"}': "_x20 5x60"},
        under={'trellis_model_retries_total{provider="main",result="withheld"}': "_x20 4x60"},
        total={'trellis_model_retries_total{provider="main",result="withheld"}': "0+10x60"},
        total_summary="150 calls to main were not tried again",
    ),
    *four(
        "BreakerOpen",
        says(
            "BreakerOpen",
            "models",
            "trellis-model",
            "The breaker of main opens again and again",
            "It was open at some time in every 5 minutes of the last 15: calls of this provider or tool are refused at "
            "once. See what it answers when it is tried.",
            name="main",
        ),
        at="20m",
        fires={'trellis_breaker_state{name="main"}': "0x2 2 1 2 2 1 2 1 0 2 2 2 1 2 0 2 2 2 1 2"},
        under={'trellis_breaker_state{name="main"}': "0x9 2 1 0x20"},
        total={'trellis_breaker_state{name="main"}': "2x30"},
        idle={'trellis_breaker_state{name="main"}': "0x30"},
    ),
)


def _spent(a_minute: float) -> Mapping[str, str]:
    return {'trellis_model_cost_usd_total{provider="main"}': f"0+{a_minute}x1600"}


def _cost(name: str, day: tuple[float, float, str], hour: tuple[float, float, str]) -> Iterator[Case]:
    """For a day and an hour: dollars a minute over the line and under it, and the sums of the former and of tenfold."""
    for alert, (over, under, text), at, said_of in (
        ("CostAboveBudget", day, "25h", "in a day: a month of such days is over the budget"),
        ("CostBurnsFast", hour, "2h", "in an hour: at this rate the month is spent in 50 hours"),
    ):
        once, tenfold = text.split()
        description = {
            "CostAboveBudget": (
                "The calls of models alone cost more than a thirtieth of all that the phase may cost a month. See "
                "which pack and which provider, and whether a cache or a cheaper route fell out."
            ),
            "CostBurnsFast": (
                "One tenant, a loop of agents or a batch that nobody announced. See the spending by pack; a tenant's "
                "budget or the kill switch stops it."
            ),
        }[alert]
        yield from four(
            alert,
            says(alert, "business", "trellis-model", f"Models cost ${once} {said_of}", description),
            sets=[name],
            at=at,
            every="10m",
            fires=_spent(over),
            under=_spent(under),
            total=_spent(over * 10),
            total_summary=f"Models cost ${tenfold} {said_of}",
            idle=_spent(0),
        )


def _lead(name: str, over: float, under: float, once: str, tenfold: str) -> tuple[Case, ...]:
    def series(a_minute: float) -> Mapping[str, str]:
        return {
            'trellis_decisions_total{pack="leads",action="answer"}': "0+1x1600",
            'trellis_run_cost_usd_total{pack="leads"}': f"0+{a_minute}x1600",
        }

    said = says(
        "CostPerLeadHigh",
        "business",
        "trellis-business",
        f"A lead costs ${once}, more than the phase can pay for each",
        "At its full load the phase's whole budget, divided by its leads, is less. See the turns of a run and the "
        "tokens of a call, and the share of answers from caches.",
    )
    return four(
        "CostPerLeadHigh",
        said,
        sets=[name],
        at="3h",
        every="10m",
        fires=series(over),
        under=series(under),
        total=series(over * 10),
        total_summary=f"A lead costs ${tenfold}, more than the phase can pay for each",
        idle=series(0),
    )


COST = (
    # A thirtieth of the month's budget a day, 14.4 hours of it in an hour: 1.67 and 1, 16.67 and 10, 100 and 60
    # dollars, and for each of three regions 166.67 and 100.
    *_cost("poc", (0.00125, 0.0011, "1.80 18.00"), (0.02, 0.016, "1.20 12.00")),
    *_cost("small", (0.0125, 0.011, "18.00 180.00"), (0.2, 0.16, "12.00 120.00")),
    *_cost("medium", (0.075, 0.069, "108.00 1080.00"), (1.2, 0.99, "72.00 720.00")),
    *_cost("multi-region", (0.125, 0.115, "180.00 1800.00"), (2, 1.6, "120.00 1200.00")),
    *_lead("poc", 0.12, 0.09, "0.12", "1.20"),
    *_lead("small", 0.12, 0.09, "0.12", "1.20"),
    *_lead("medium", 0.08, 0.05, "0.08", "0.80"),
    *_lead("multi-region", 0.06, 0.04, "0.06", "0.60"),
)


def _piling(name: str, line: int) -> tuple[Case, ...]:
    def series(depth: int) -> Mapping[str, str]:
        both = ("api", "worker")
        return {f'trellis_jobs_queue_depth{{job="trellis-{each}",queue="leads"}}': f"{depth}x60" for each in both}

    said = says(
        "JobsPilingUp",
        "api",
        "trellis-jobs",
        f"{line + 1} jobs wait in the queue leads",
        "For half an hour more have waited than an hour of this phase's leads. See whether it is a batch that will "
        "pass, or workers that are too few or too slow.",
        queue="leads",
    )
    return four(
        "JobsPilingUp",
        said,
        sets=[name],
        at="40m",
        fires=series(line + 1),
        under=series(line),
        total=series(9000),
        total_summary="9000 jobs wait in the queue leads",
        idle=series(0),
    )


AGE = 'trellis_jobs_oldest_age_seconds{job="trellis-api",queue="leads"}'
FINISHED = 'trellis_jobs_finished_total{{job="trellis-worker",task="leads.decide",outcome="{}"}}'
JOBS = (
    *four(
        "JobsStuck",
        says(
            "JobsStuck",
            "api",
            "trellis-jobs",
            "Jobs wait for 30m 0s and none has ended in 15 minutes",
            "Leads get no decision while this lasts, and the time to answer counts only what is answered. See whether "
            "workers run, and whether they reach the database.",
            severity="page",
        ),
        at="30m",
        fires={AGE: "0+60x60", FINISHED.format("done"): "40x60"},
        under={AGE: "0+60x60", FINISHED.format("done"): "40+1x60"},
        # The workers are gone with their counters.
        total={AGE: "0+600x60"},
        total_summary="Jobs wait for 5h 0m 0s and none has ended in 15 minutes",
        idle={AGE: "0x60", FINISHED.format("done"): "40x60"},
    ),
    *four(
        "JobsWaiting",
        says(
            "JobsWaiting",
            "api",
            "trellis-jobs",
            "A job in the queue leads waits for 20m 0s",
            "Either more comes in than workers can do, or one kind of job holds the others up. See the depth of the "
            "queue and how long its jobs take.",
            queue="leads",
        ),
        at="30m",
        fires={AGE: "1200x60"},
        under={AGE: "890x60"},
        total={AGE: "0+600x60"},
        total_summary="A job in the queue leads waits for 5h 0m 0s",
        idle={AGE: "0x60"},
    ),
    *_piling("poc", 100),
    *_piling("small", 100),
    *_piling("medium", 208),
    *_piling("multi-region", 416),
    *four(
        "JobsFailing",
        says(
            "JobsFailing",
            "api",
            "trellis-jobs",
            "10% of the jobs leads.decide fail for good",
            "Their retries are used up; what they were to do is not done. See the errors of the job in the log, mend "
            "the cause, then start them again.",
            task="leads.decide",
        ),
        at="90m",
        fires={FINISHED.format("done"): "0+0.9x120", FINISHED.format("failed"): "0+0.1x120"},
        under={FINISHED.format("done"): "0+96x120", FINISHED.format("failed"): "0+4x120"},
        total={FINISHED.format("failed"): "_x70 3x60"},
        total_summary="100% of the jobs leads.decide fail for good",
        idle={FINISHED.format("done"): "40x120", FINISHED.format("failed"): "9x120"},
    ),
)


def _lookups(hits: str, misses: str) -> Mapping[str, str]:
    labels = 'trellis_cache_requests_total{{cache="answers",tier="{}",result="{}"}}'
    return {labels.format("l1", "hit"): hits, labels.format("none", "miss"): misses}


LOG = 'trellis_log_events_total{level="error"}'
READS = 'trellis_database_reads_total{{where="{}"}}'


def _reads(replica: int, behind: int) -> Mapping[str, str]:
    return {READS.format("replica"): f"0+{replica}x60", READS.format("writer_replica_behind"): f"0+{behind}x60"}


SERVICE = (
    *four(
        "CacheHitsFell",
        says(
            "CacheHitsFell",
            "api",
            "trellis-model",
            "The cache answers answers only 10% of look-ups",
            "Less than half of its share in the week before: answers become slower and dearer. See whether it was "
            "emptied, a prompt or index version changed its keys, or its store is away.",
            cache="answers",
        ),
        at="22h",
        every="10m",
        fires=_lookups("0+5x840 4200+1x600", "0+5x840 4200+9x600"),
        under=_lookups("0+5x840 4200+3x600", "0+5x840 4200+7x600"),
        total=_lookups("0+5x840 4200+0x600", "0+5x840 4200+10x600"),
        total_summary="The cache answers answers only 0% of look-ups",
        idle=_lookups("0+5x840 4200+0x600", "0+5x840 4200+0x600"),
    ),
    *four(
        "DatabasePoolExhausted",
        says(
            "DatabasePoolExhausted",
            "data",
            "trellis-api",
            "10% of tasks wait more than 100 ms for a database connection",
            "The pools of the processes are used up. See whether statements became slow, a transaction is held open, "
            "or there is simply more to do than connections.",
        ),
        at="20m",
        fires=timed("trellis_database_connection_wait_seconds", "0.1", "", 90, 10),
        under=timed("trellis_database_connection_wait_seconds", "0.1", "", 96, 4),
        total=timed("trellis_database_connection_wait_seconds", "0.1", "", 0, 10),
        total_summary="100% of tasks wait more than 100 ms for a database connection",
    ),
    *four(
        "EventLoopLag",
        says(
            "EventLoopLag",
            "api",
            "trellis-api",
            "The event loop of a:1 stands still for more than 100 ms at a time",
            "Every request of that process waits with it (2% of its looks came late). "
            "Something computes or blocks on the loop, or the process has too little CPU.",
            job="trellis-api",
            instance="a:1",
        ),
        at="20m",
        fires=timed("trellis_event_loop_lag_seconds", "0.1", 'job="trellis-api",instance="a:1"', 98, 2),
        under=timed("trellis_event_loop_lag_seconds", "0.1", 'job="trellis-api",instance="a:1"', 991, 9),
        # Half of all wakes: a loop that stands still for ever is not asked at all.
        total=timed("trellis_event_loop_lag_seconds", "0.1", 'job="trellis-api",instance="a:1"', 50, 50),
        total_description="Every request of that process waits with it (50% of its looks came late). "
        "Something computes or blocks on the loop, or the process has too little CPU.",
    ),
    *four(
        "ErrorLogsRising",
        says(
            "ErrorLogsRising",
            "api",
            "trellis-api",
            "15 errors were logged in 15 minutes",
            "More than three times the pace of the day before. The log says what and where; its lines carry the trace "
            "of the request.",
        ),
        at="90m",
        fires={LOG: "0x74 0+1x60"},
        under={LOG: "0x74 0+0.6x60"},
        # The first errors ever: the series is born with them.
        total={LOG: "_x80 600x60"},
        total_summary="600 errors were logged in 15 minutes",
        idle={LOG: "0x120"},
    ),
    *four(
        "RedisAway",
        says(
            "RedisAway",
            "data",
            "trellis-stores",
            "1 nodes of Redis do not answer the app",
            "The app goes on without them: caches miss, limits count in each process alone, and conversations may miss "
            "their last turns. See Redis and the way to it.",
        ),
        at="10m",
        fires={'trellis_redis_away{instance="a:1"}': "0x2 1x20", 'trellis_redis_away{instance="b:1"}': "0x30"},
        under={'trellis_redis_away{instance="a:1"}': "0x8 1 0x20"},
        total={'trellis_redis_away{instance="a:1"}': "3x30", 'trellis_redis_away{instance="b:1"}': "3x30"},
        total_summary="3 nodes of Redis do not answer the app",
        idle={'trellis_redis_away{instance="a:1"}': "0x30"},
    ),
    *four(
        "ReplicasBehind",
        says(
            "ReplicasBehind",
            "data",
            "trellis-postgres",
            "25% of reads go to the writer because replicas are behind or away",
            "Users read their own writes all the same, but the writer does the replicas' work. See the replicas' lag "
            "and whether they answer.",
        ),
        at="30m",
        fires=_reads(75, 25),
        under=_reads(81, 19),
        total={READS.format("writer_replica_away"): "0+100x60"},
        total_summary="100% of reads go to the writer because replicas are behind or away",
    ),
    *four(
        "KillSwitchOn",
        says(
            "KillSwitchOn",
            "business",
            "trellis-agent",
            "The kill switch leads is on",
            "Its runs are refused on purpose. This ticket stays open so that the switch is not forgotten: see the "
            "audit log for who set it and why.",
            name="leads",
        ),
        at="5m",
        fires={'trellis_kill_switch{name="leads",instance="a:1"}': "0 1x10"},
        under={'trellis_kill_switch{name="leads",instance="a:1"}': "1 0x10"},
        total={f'trellis_kill_switch{{name="leads",instance="{each}"}}': "1x10" for each in "abc"},
        idle={'trellis_kill_switch{name="leads",instance="a:1"}': "0x10"},
    ),
    *four(
        "PartDown",
        says(
            "PartDown",
            "platform",
            "trellis-api",
            "The part vectors of a process is not well",
            "At least one process cannot use it. See which ones: one is that process's trouble, all of them the part's "
            "own.",
            part="vectors",
        ),
        at="20m",
        fires={'trellis_part_up{part="vectors",instance="a"}': "1x5 0x20", 'trellis_part_up{part="vectors"}': "1x30"},
        under={'trellis_part_up{part="vectors",instance="a"}': "1x5 0x4 1x20"},
        total={f'trellis_part_up{{part="vectors",instance="{each}"}}': "0x30" for each in "abc"},
    ),
)

CASES = (*MODELS, *COST, *JOBS, *SERVICE)
