"""Work in the background: queues, jobs, documents taken in, treatment runs, teams and messages between agents."""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, bars, board, label_variable, series, stat
from dashboards.src.promql import increase, quantile, rate
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-jobs"
_QUEUE: Final = '{queue=~"$queue"}'
_FINISHED: Final = "trellis_jobs_finished_total"


def used(phase: Phase) -> bool:
    return asks(phase, "trellis-api")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: jobs and batches",
        "Whether background work keeps up: queues, jobs, documents, treatment runs, teams of agents, messages.",
        tags=["application", "jobs"],
        variables=[label_variable("queue", "queue", "trellis_jobs_queue_depth")],
        rows=[
            Row("Now", _now()),
            Row("Queues", _queues()),
            Row("Jobs", _jobs()),
            Row("Documents", _documents()),
            Row("Treatments", _treatments()),
            Row("Teams and messages", _teams()),
        ],
    )


def _now() -> list[Panel]:
    failed = increase(_FINISHED, where='{outcome="failed"}')
    return [
        stat(
            "Jobs waiting",
            "Jobs in the chosen queues that nobody has begun. Bad: grows for long. Next: 'Waiting jobs by queue'.",
            "none",
            Query(f"sum(max by (queue) (trellis_jobs_queue_depth{_QUEUE}))"),
            width=6,
        ),
        stat(
            "Oldest job",
            "How long the oldest waiting job has waited. Bad: above 5 minutes. Next: 'Age of the oldest job'.",
            "s",
            Query(f"max(trellis_jobs_oldest_age_seconds{_QUEUE})"),
            width=6,
            steps=((0.0, "green"), (60.0, "orange"), (300.0, "red")),
        ),
        stat(
            "Jobs failed",
            "Jobs that ended as failed in the time shown. Bad: any that should not. Next: 'Failed jobs'.",
            "none",
            Query(f"{failed} or vector(0)"),
            width=6,
            decimals=0,
            steps=((0.0, "green"), (1.0, "red")),
        ),
        stat(
            "Allocation gap",
            "How far the allocations of the time shown were from the best possible, p99. Bad: above 5 %: the search "
            "ran out of time. Next: 'Chunks and allocations (p99)'.",
            "percentunit",
            Query(f"histogram_quantile(0.99, {increase('trellis_treatments_allocation_gap_bucket', 'le')})"),
            width=6,
            decimals=1,
        ),
    ]


def _queues() -> list[Panel]:
    return [
        series(
            "Waiting jobs by queue",
            "Jobs that nobody has begun. Bad: a line that only rises: workers are too few, or stand still. Next: "
            "trellis-kubernetes (workers), 'Time of a job (p99)'.",
            "none",
            Query(f"max by (queue) (trellis_jobs_queue_depth{_QUEUE})", "{{queue}}"),
            width=12,
        ),
        series(
            "Age of the oldest job",
            "Seconds that the oldest job of each queue has waited. Bad: rises second by second: nothing is taken from "
            "that queue. Next: the logs of trellis-worker.",
            "s",
            Query(f"max by (queue) (trellis_jobs_oldest_age_seconds{_QUEUE})", "{{queue}}"),
            width=12,
        ),
    ]


def _jobs() -> list[Panel]:
    return [
        series(
            "Jobs by outcome",
            "Jobs a second by how they ended. Bad: failed; nothing at all while jobs wait. Next: 'Failed jobs'.",
            "ops",
            Query(rate(_FINISHED, "outcome"), "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Failed jobs",
            "Failed jobs a second by kind. Bad: any that stays. Next: the logs of trellis-worker name the error; its "
            "trace leads to the request that began it.",
            "ops",
            Query(rate(_FINISHED, "task", where='{outcome="failed"}'), "{{task}}"),
        ),
        series(
            "Time of a job (p99)",
            "Time that 1 in 100 jobs of a kind exceeds. Dots are traces. Bad: a kind leaves its level. Next: its "
            "trace.",
            "s",
            Query(quantile(0.99, "trellis_job_duration_seconds", "task"), "{{task}}"),
            exemplars=True,
        ),
    ]


def _documents() -> list[Panel]:
    return [
        series(
            "Documents by state",
            "Documents of all bots: ready to answer from, or on the way. Bad: 'processing' or 'queued' that does not "
            "fall. Next: 'Age of the oldest job'.",
            "none",
            Query("max by (status) (trellis_documents)", "{{status}}"),
            judged=True,
        ),
        series(
            "Documents taken in",
            "Documents a minute by how it ended; 'overtaken' made room for newer content. Bad: failed. Next: the "
            "console names the reason of each.",
            "opm",
            Query(f"{rate('trellis_ingest_documents_total', 'outcome')} * 60", "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Time to take a document in",
            "Reading the file, cutting, embedding and storing. Bad: p99 above a minute. Next: trellis-stores "
            "(Qdrant), the embedder in a trace.",
            "s",
            Query(quantile(0.5, "trellis_ingest_duration_seconds"), "p50"),
            Query(quantile(0.99, "trellis_ingest_duration_seconds"), "p99"),
        ),
    ]


def _treatments() -> list[Panel]:
    return [
        bars(
            "Runs by state",
            "How many runs came into each state in the time shown. Bad: failed, or running without done. Next: the "
            "run in the console.",
            "none",
            Query(increase("trellis_treatments_runs_total", "state"), "{{state}}"),
            width=6,
        ),
        series(
            "Customers decided",
            "Customers a second by what came of it. Bad: 'set_aside' grows: the model's answers were not usable. "
            "Next: trellis-model.",
            "ops",
            Query(rate("trellis_treatments_customers_total", "state"), "{{state}}"),
            width=6,
            stacked=True,
        ),
        series(
            "Chunks and allocations (p99)",
            "Time of a chunk of customers, and of the search for an allocation. Bad: an allocation at its limit of "
            "time: a greedy answer is taken. Next: 'Allocation gap'.",
            "s",
            Query(quantile(0.99, "trellis_treatments_chunk_duration_seconds"), "chunk"),
            Query(quantile(0.99, "trellis_treatments_allocation_seconds"), "allocation"),
            width=6,
        ),
        series(
            "Reservations",
            "Reservations of a treatment's unit a minute by the state that they came into. Bad: many expire: units "
            "are held and not used. Next: who confirms them.",
            "opm",
            Query(f"{rate('trellis_treatments_reservations_total', 'state')} * 60", "{{state}}"),
            width=6,
            stacked=True,
        ),
    ]


def _teams() -> list[Panel]:
    return [
        series(
            "Questions to teams",
            "Questions a minute by how they ended; 'partial' says what is missing. Bad: failed, unavailable. Next: "
            "a trace of such a question: which member failed?",
            "opm",
            Query(f"{rate('trellis_teams_questions_total', 'outcome')} * 60", "{{outcome}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Syncs of clients' news",
            "Clients a minute whose news were asked for, by where from. Bad: failed: health scores grow old. Next: "
            "the CRM's or the code host's status.",
            "opm",
            Query(f"{rate('trellis_teams_syncs_total', 'source', 'result')} * 60", "{{source}} {{result}}"),
            stacked=True,
            judged=True,
        ),
        series(
            "Messages",
            "Messages from agent to agent a minute. Bad: failed, unanswered. Next: the jobs of the agent asked.",
            "opm",
            Query(f"{rate('trellis_messages_total', 'topic', 'outcome')} * 60", "{{topic}} {{outcome}}"),
            stacked=True,
            judged=True,
        ),
    ]
