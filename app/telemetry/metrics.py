"""The catalogue of every metric: declared once here, read by dashboards and alerts, built once by the container.

Naming follows Prometheus's rules (https://prometheus.io/docs/practices/naming/): base units in the name,
`_total` on counters. A label value is either one of a short list or comes from a bounded source that the
spec names; ids of tenants, users, leads or requests are never labels.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.telemetry.specs import (
    AGENT,
    BREAKER,
    CACHE,
    CALL_BUCKETS,
    GAP_BUCKETS,
    JOB,
    JOB_BUCKETS,
    LATENCY_BUCKETS,
    METHOD,
    MODEL_ROUTE,
    OWN_BUCKETS,
    PACK,
    PREFIX,
    PROVIDER,
    QUEUE,
    ROUTE,
    SHARE_BUCKETS,
    STATUSES,
    STEP_BUCKETS,
    TEAM,
    TOKEN_BUCKETS,
    TOOL,
    WAIT_BUCKETS,
    Kind,
    Label,
    MetricSpec,
    counter,
    gauge,
    histogram,
)

MODEL_OUTCOMES = ("ok", "error", "timeout", "rate_limited", "cancelled")
JOB_OUTCOMES = ("done", "failed", "cancelled")
LEVELS = ("debug", "info", "warning", "error", "critical")

__all__ = [
    "CATALOGUE",
    "JOB_OUTCOMES",
    "LEVELS",
    "MODEL_OUTCOMES",
    "PREFIX",
    "Kind",
    "Label",
    "MetricSpec",
    "Metrics",
    "foreign_label_values",
]

_HTTP = (
    counter(
        "http_requests",
        "Requests answered, by route template and class of status.",
        ROUTE,
        METHOD,
        Label("status_class", ("1xx", "2xx", "3xx", "4xx", "5xx")),
    ),
    histogram(
        "http_request_duration_seconds",
        "Time from a request's first byte read to its answer's last byte sent.",
        ROUTE,
        METHOD,
        buckets=LATENCY_BUCKETS,
        exemplars=True,
    ),
    gauge("http_in_flight", "Requests being answered now."),
    counter(
        "rate_limited",
        "Requests refused by a rate limit, by the key's tier.",
        Label("tier", ("free", "standard", "pro", "anonymous")),
    ),
)

_STORES = (
    counter(
        "database_reads",
        "A tenant's reads where there are replicas: whether a replica had the tenant's last write, or why the writer "
        "was asked.",
        Label("where", ("replica", "writer_replica_behind", "writer_position_unknown", "writer_replica_away")),
    ),
    gauge(
        "part_up",
        "1 where a part of the process was well when its readiness was last looked at, else 0.",
        Label("part", source="parts of app/container/parts.py, and 'sample'"),
    ),
)

_PROCESS = (
    counter("log_events", "Lines logged, by their level.", Label("level", LEVELS)),
    counter("spans", "Spans that left the process, or did not.", Label("result", ("exported", "dropped", "failed"))),
    counter("metric_pushes", "Pushes of all metrics to the collector.", Label("result", ("done", "failed"))),
    histogram(
        "event_loop_lag_seconds",
        "How much later than it asked to be woken a task of the event loop woke.",
        buckets=OWN_BUCKETS,
    ),
    gauge(
        "database_connections",
        "Connections of the app's own pools.",
        Label("pool", ("writer", "reader")),
        Label("state", ("in_use", "idle")),
    ),
    histogram(
        "database_connection_wait_seconds", "Time that a task waited for a connection of a pool.", buckets=OWN_BUCKETS
    ),
)

_MODEL = (
    histogram(
        "model_call_duration_seconds",
        "Time of one call to a model provider.",
        PROVIDER,
        MODEL_ROUTE,
        Label("outcome", MODEL_OUTCOMES),
        buckets=CALL_BUCKETS,
        exemplars=True,
    ),
    histogram(
        "model_first_token_seconds",
        "Time from a streamed model call's start to the first piece of its answer.",
        PROVIDER,
        MODEL_ROUTE,
        buckets=CALL_BUCKETS,
    ),
    counter(
        "model_tokens",
        "Tokens of model calls.",
        PROVIDER,
        Label("direction", ("input", "output", "cached")),
        unit="tokens",
    ),
    histogram(
        "model_call_tokens",
        "Tokens of one model call.",
        PROVIDER,
        Label("direction", ("input", "output")),
        buckets=TOKEN_BUCKETS,
        unit="tokens",
    ),
    counter("model_cost_usd", "Cost of model calls in US dollars, by the price list.", PROVIDER, unit="usd"),
    counter("model_fallbacks", "Calls that went on to the next provider of their route.", MODEL_ROUTE),
    counter(
        "model_retries",
        "Failed model calls that were worth another attempt, by whether the provider's retry budget had one left.",
        PROVIDER,
        Label("result", ("made", "withheld")),
    ),
    gauge(
        "breaker_state",
        "State of a circuit breaker: 0 closed, 1 half open, 2 open.",
        BREAKER,
    ),
    counter("breaker_opened", "Times that a circuit breaker opened.", BREAKER),
)

_TOOLS = (
    counter(
        "tool_calls",
        "Tool calls by how they ended.",
        TOOL,
        Label("outcome", ("done", "failed", "denied", "waiting_approval", "parked", "skipped")),
    ),
    histogram("tool_duration_seconds", "Time of one tool call, retries included.", TOOL, buckets=CALL_BUCKETS),
    counter(
        "mcp_calls",
        "Calls of tools by MCP: of mounted servers by us, of ours (server 'trellis') by other agents.",
        Label("server", source="servers of TRELLIS_MCP_SERVERS_FILE, and 'trellis'"),
        Label("tool", source="tools that the file allows, tools that packs offer, and 'unknown'"),
        Label(
            "outcome",
            (
                *("done", "failed", "denied", "waiting_approval", "parked", "skipped"),
                *("unreachable", "timeout", "broken", "lied"),
            ),
        ),
    ),
    histogram(
        "mcp_call_duration_seconds",
        "Time of one call of a tool by MCP.",
        Label("server", source="servers of TRELLIS_MCP_SERVERS_FILE, and 'trellis'"),
        buckets=CALL_BUCKETS,
    ),
    gauge("effects_parked", "Tool effects of unknown fate that wait for a person."),
    gauge("approvals_pending", "Tool calls that wait for a person's approval."),
)

_AGENT = (
    counter(
        "budget_refusals",
        "Runs refused because a budget was spent, by whose budget it was.",
        Label("scope", ("request", "tenant")),
    ),
    histogram("agent_steps", "Model turns of one agent run.", buckets=STEP_BUCKETS, unit="steps"),
    histogram(
        "agent_run_duration_seconds",
        "Time of one agent run, model and tools included.",
        AGENT,
        Label("outcome", ("done", "failed", "refused", "timeout", "cancelled")),
        buckets=CALL_BUCKETS,
        exemplars=True,
    ),
)

_CACHES = (
    counter(
        "cache_requests",
        "Look-ups in a cache by where they ended: in process (l1), in Redis (l2) or in neither; 'shared' joined a call "
        "that was under way, 'bypass' could not be answered from a cache, 'off' found it switched off.",
        CACHE,
        Label("tier", ("l1", "l2", "none")),
        Label("result", ("hit", "miss", "shared", "bypass", "off")),
    ),
    gauge("cache_entries", "Entries that this process keeps.", CACHE),
    gauge("cache_bytes", "Bytes that this process's entries take.", CACHE, unit="bytes"),
    counter("cache_saved_usd", "Cost in US dollars of the model calls that a cache spared.", CACHE, unit="usd"),
    gauge("redis_away", "Nodes of Redis that this process leaves alone for a moment because they did not answer."),
    counter(
        "redis_fallbacks",
        "What was done without Redis while it was away: a look-up in a cache missed or a drop is owed (cache), a "
        "request was counted by this process alone (limiter), a turn went on without the earlier ones or was not kept "
        "(memory), a read went to the writer (marks).",
        Label("use", ("cache", "limiter", "marks", "memory")),
    ),
)

_KNOWLEDGE = (
    histogram(
        "retrieval_score", "Score of the best chunk of a retrieval, from 0 to 1.", buckets=SHARE_BUCKETS, unit=""
    ),
    histogram("retrieval_duration_seconds", "Time of one retrieval, cache included.", buckets=LATENCY_BUCKETS),
    counter(
        "retrieval_requests",
        "Retrievals by what they found.",
        Label("result", ("found", "empty", "error")),
    ),
    gauge("documents", "Documents of all bots, by how far they are.", Label("status", STATUSES)),
    counter(
        "ingest_documents",
        "Documents taken into an index, by how it ended; 'overtaken' made room for newer content or a deletion.",
        Label("outcome", ("ready", "unchanged", "overtaken", "failed")),
    ),
    counter("ingest_chunks", "Chunks embedded and stored."),
    histogram(
        "ingest_duration_seconds", "Time to take one document in, reading its file included.", buckets=JOB_BUCKETS
    ),
    counter("quarantined_chunks", "Chunks kept out of evidence because they carry instructions to the agent."),
)

_DECISIONS = (
    histogram(
        "time_to_answer_seconds",
        "Time from a question, or the start of a decision, to its answer: all of it, or its first piece where it is "
        "streamed. What the phase promises.",
        PACK,
        Label("way", ("whole", "first_piece")),
        buckets=CALL_BUCKETS,
        exemplars=True,
    ),
    counter(
        "run_cost_usd",
        "Cost in US dollars of the model calls of a pack, failed ones included. Cost per lead: its increase over that "
        "of trellis_decisions_total, both of the pack 'leads'.",
        PACK,
        unit="usd",
    ),
    histogram("decision_confidence", "How sure decisions were, from 0 to 1.", PACK, buckets=SHARE_BUCKETS, unit=""),
    counter(
        "decision_reviews",
        "Decisions that a person judged, or whose write a person approved or rejected. Decision accuracy: the share "
        "that was right.",
        PACK,
        Label("verdict", ("right", "wrong")),
    ),
    counter("decisions", "Decisions made.", PACK, Label("action", source="actions that the pack declares")),
    histogram("decision_duration_seconds", "Time of one decision, all included.", PACK, buckets=CALL_BUCKETS),
    histogram(
        "own_share_seconds",
        "Time of one decision without its model calls: our own share.",
        PACK,
        buckets=OWN_BUCKETS,
    ),
)

_CONVERSATION = (
    counter(
        "answers",
        "Turns of conversations by how they ended, and by the cache that gave the answer; 'shared' joined a turn that "
        "was under way.",
        PACK,
        Label("outcome", ("answered", "refused", "failed", "cancelled")),
        Label("cache", ("none", "exact", "semantic", "shared")),
    ),
    counter(
        "answer_feedback",
        "Answers that their reader judged for the first time, and what leads said of theirs (4 or 5 of 5 is helpful). "
        "CSAT: the share that was helpful.",
        PACK,
        Label("helpful", ("true", "false")),
    ),
    histogram(
        "answer_first_token_seconds",
        "Time from a question to the first piece of its answer, where no exact answer was kept.",
        PACK,
        buckets=CALL_BUCKETS,
    ),
)

_JOBS = (
    gauge("jobs_queue_depth", "Jobs waiting in a queue.", QUEUE),
    gauge("jobs_oldest_age_seconds", "Age of the oldest job waiting in a queue.", QUEUE, unit="seconds"),
    counter("jobs_finished", "Jobs that ended.", JOB, Label("outcome", JOB_OUTCOMES)),
    histogram(
        "job_duration_seconds", "Time of one job from its start to its end.", JOB, buckets=JOB_BUCKETS, exemplars=True
    ),
)

_TOPIC = Label("topic", source="the topics that packs declare (app.messages.base.Topic)")
_MESSAGES = (
    counter(
        "messages", "Messages from agent to agent.", _TOPIC, Label("outcome", ("answered", "failed", "unanswered"))
    ),
    histogram("message_duration_seconds", "Time from asking another agent to its answer.", _TOPIC, buckets=JOB_BUCKETS),
)

_BUSINESS = (
    histogram("lead_score", "Scores of leads, from 0 to 1.", buckets=SHARE_BUCKETS, unit=""),
    counter(
        "leads_received",
        "Leads taken in, by how they came in touch.",
        Label("source", ("web_form", "email", "event", "referral", "partner", "import")),
    ),
    counter(
        "lead_outcomes",
        "Outcomes reported. Conversion: the share that converted.",
        Label("kind", ("converted", "lost")),
    ),
    histogram(
        "first_response_seconds",
        "Time from a lead's arrival to the first answer sent to it: the time to first response.",
        buckets=WAIT_BUCKETS,
    ),
    counter(
        "escalations",
        "Escalations by a person's judgement of whether each was necessary. Escalation precision: the share that was.",
        Label("necessary", ("true", "false")),
    ),
)

_TEAMS = (
    counter(
        "teams_questions",
        "Questions put to teams of agents, by how they ended; 'partial' was answered and says what is missing.",
        TEAM,
        Label("outcome", ("done", "partial", "failed", "refused", "unavailable", "cancelled")),
    ),
    counter(
        "teams_tasks",
        "Sub-questions that members of teams had, by how they ended.",
        Label("member", source="members that app/packs/teams/teams.yaml names"),
        Label("state", ("done", "failed", "timeout", "refused", "skipped")),
    ),
    counter(
        "teams_health_scores",
        "Health scores that were stored of clients, by what they came to.",
        Label("state", ("healthy", "watch", "at_risk")),
    ),
    counter(
        "teams_syncs",
        "Clients whose news were asked for, by where and how it ended.",
        Label("source", ("crm", "code")),
        Label("result", ("done", "failed")),
    ),
    histogram(
        "teams_question_duration_seconds", "Time from a team's question to its answer.", TEAM, buckets=CALL_BUCKETS
    ),
)

_RUNS = (
    counter(
        "treatments_customers",
        "Customers that runs decided, by what came of it before any allocation.",
        Label("state", ("proposed", "none", "control", "set_aside")),
    ),
    histogram(
        "treatments_chunk_duration_seconds",
        "Time of one chunk of customers, from its first question to its results.",
        buckets=JOB_BUCKETS,
    ),
    counter(
        "treatments_runs",
        "Runs of treatments that came into a state.",
        Label("state", ("queued", "running", "paused", "allocating", "done", "cancelled", "failed")),
    ),
    histogram(
        "treatments_allocation_gap",
        "How far an allocation's score is from what no allocation can pass, as a share of the latter.",
        buckets=GAP_BUCKETS,
        unit="",
    ),
    histogram("treatments_allocation_seconds", "Time of the search for one allocation.", buckets=JOB_BUCKETS),
    counter(
        "treatments_reservations",
        "Reservations of a treatment's unit that came into a state.",
        Label("state", ("held", "confirmed", "released", "expired")),
    ),
)

_RECOMMENDATION = (
    counter(
        "treatments_answers",
        "Customers by where their recommendation came from: an answer that was there, a model call, one after its "
        "batch was split, or a rule where there was nothing to ask.",
        Label("source", ("shared", "model", "split", "rule", "set_aside")),
    ),
    histogram(
        "treatments_model_batch_size",
        "Profiles of customers in one model call.",
        buckets=(1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 50.0, 100.0),
        unit="",
    ),
)

_HOUSE = (
    counter("audit_entries", "Entries appended to the audit log."),
    gauge(
        "build_info",
        "Always 1; the labels say which build runs as which phase.",
        Label("version", source="the package's version"),
        Label("phase", source="infra/phases.py"),
    ),
    gauge(
        "kill_switch",
        "1 where the switch stops its pack (or, named 'all', every pack).",
        Label("name", source="folders of app/packs, 'mcp' and 'all'"),
    ),
)

CATALOGUE: tuple[MetricSpec, ...] = (
    *_HTTP,
    *_MODEL,
    *_TOOLS,
    *_AGENT,
    *_STORES,
    *_PROCESS,
    *_CACHES,
    *_KNOWLEDGE,
    *_DECISIONS,
    *_CONVERSATION,
    *_JOBS,
    *_MESSAGES,
    *_BUSINESS,
    *_TEAMS,
    *_RUNS,
    *_RECOMMENDATION,
    *_HOUSE,
)


class Metrics:
    """Every metric of the service on one registry: `metrics.<attribute>` for each spec of the catalogue.

    Raises ValueError where the registry already holds one of the names.
    """

    http_requests: Counter
    http_request_duration_seconds: Histogram
    http_in_flight: Gauge
    rate_limited: Counter
    database_reads: Counter
    part_up: Gauge
    log_events: Counter
    spans: Counter
    metric_pushes: Counter
    event_loop_lag_seconds: Histogram
    database_connections: Gauge
    database_connection_wait_seconds: Histogram
    model_call_duration_seconds: Histogram
    model_first_token_seconds: Histogram
    model_tokens: Counter
    model_call_tokens: Histogram
    model_cost_usd: Counter
    model_fallbacks: Counter
    model_retries: Counter
    breaker_state: Gauge
    breaker_opened: Counter
    tool_calls: Counter
    tool_duration_seconds: Histogram
    mcp_calls: Counter
    mcp_call_duration_seconds: Histogram
    effects_parked: Gauge
    approvals_pending: Gauge
    cache_requests: Counter
    cache_entries: Gauge
    cache_bytes: Gauge
    redis_away: Gauge
    redis_fallbacks: Counter
    cache_saved_usd: Counter
    budget_refusals: Counter
    agent_steps: Histogram
    agent_run_duration_seconds: Histogram
    retrieval_duration_seconds: Histogram
    retrieval_requests: Counter
    retrieval_score: Histogram
    documents: Gauge
    ingest_documents: Counter
    ingest_chunks: Counter
    ingest_duration_seconds: Histogram
    quarantined_chunks: Counter
    time_to_answer_seconds: Histogram
    run_cost_usd: Counter
    decision_confidence: Histogram
    decision_reviews: Counter
    decisions: Counter
    decision_duration_seconds: Histogram
    own_share_seconds: Histogram
    answers: Counter
    answer_feedback: Counter
    answer_first_token_seconds: Histogram
    jobs_queue_depth: Gauge
    jobs_oldest_age_seconds: Gauge
    jobs_finished: Counter
    job_duration_seconds: Histogram
    messages: Counter
    message_duration_seconds: Histogram
    lead_score: Histogram
    leads_received: Counter
    lead_outcomes: Counter
    first_response_seconds: Histogram
    escalations: Counter
    teams_questions: Counter
    teams_tasks: Counter
    teams_health_scores: Counter
    teams_syncs: Counter
    teams_question_duration_seconds: Histogram
    treatments_answers: Counter
    treatments_model_batch_size: Histogram
    treatments_customers: Counter
    treatments_chunk_duration_seconds: Histogram
    treatments_runs: Counter
    treatments_allocation_gap: Histogram
    treatments_allocation_seconds: Histogram
    treatments_reservations: Counter
    audit_entries: Counter
    build_info: Gauge
    kill_switch: Gauge

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        for spec in CATALOGUE:
            setattr(self, spec.attribute, spec.build(registry))


def foreign_label_values(registry: CollectorRegistry) -> Iterator[str]:
    """Series whose label value is not on its spec's list, one sentence each (for tests over a running service)."""
    allowed = {
        spec.name.removesuffix("_total"): {label.name: label.values for label in spec.labels if label.values}
        for spec in CATALOGUE
    }
    for family in registry.collect():
        for name, values in allowed.get(family.name, {}).items():
            for seen in {sample.labels[name] for sample in family.samples} - set(values):
                yield f"{family.name} has {name}={seen!r}; the catalogue allows {', '.join(values)}"
