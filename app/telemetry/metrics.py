"""The catalogue of every metric: declared once here, read by dashboards and alerts, built once by the container.

Naming follows Prometheus's rules (https://prometheus.io/docs/practices/naming/): base units in the name,
`_total` on counters. A label value is either one of a short list or comes from a bounded source that the
spec names; ids of tenants, users, leads or requests are never labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "trellis_"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and what bounds its values: `values` lists them, or `source` says where the bounded set is declared."""

    name: str
    values: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    `name` is the exposed name (a counter's has `_total`; a histogram's series add `_bucket`, `_sum`, `_count`).
    `unit` is the base unit that the name ends in, empty for a plain count or state.
    """

    attribute: str
    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    def build(self, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
        """Registers the metric; raises ValueError where the registry already holds its name."""
        if self.kind is Kind.HISTOGRAM:
            return Histogram(self.name, self.help, self.label_names, registry=registry, buckets=self.buckets)
        if self.kind is Kind.GAUGE:
            return Gauge(self.name, self.help, self.label_names, registry=registry)
        return Counter(self.name, self.help, self.label_names, registry=registry)


# Every latency target of every phase (0.1, 0.3, 0.5, 1, 2, 3 s) is a bucket's edge, so that a share "within
# the target" is read off exactly and never interpolated.
OWN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0)
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
CALL_BUCKETS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
JOB_BUCKETS = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WAIT_BUCKETS = (0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 259200.0)
GAP_BUCKETS = (0.0, 1e-6, 1e-4, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
STEP_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0)

ROUTE = Label("route", source="path templates of the API, and 'unmatched'")
METHOD = Label("method", ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"))
PROVIDER = Label("provider", source="model providers of the settings")
MODEL_ROUTE = Label("route", source="model routes of the settings")
TOOL = Label("tool", source="tools that packs register, and 'unknown' for a name that a model made up")
QUEUE = Label("queue", source="queues that packs register")
JOB = Label("job", source="jobs that packs register")
AGENT = Label("agent", source="agent specs that packs declare")
TEAM = Label("team", source="teams that app/packs/teams/teams.yaml names")
PACK = Label("pack", source="folders of app/packs")
CACHE = Label("cache", ("models", "answers", "semantic", "embeddings", "retrieval"))


STATUSES = ("queued", "processing", "ready", "failed")


def _counter(attribute: str, help: str, *labels: Label, unit: str = "") -> MetricSpec:
    return MetricSpec(attribute, f"{PREFIX}{attribute}_total", Kind.COUNTER, unit, help, labels)


def _gauge(attribute: str, help: str, *labels: Label, unit: str = "") -> MetricSpec:
    return MetricSpec(attribute, f"{PREFIX}{attribute}", Kind.GAUGE, unit, help, labels)


def _histogram(
    attribute: str, help: str, *labels: Label, buckets: tuple[float, ...], unit: str = "seconds"
) -> MetricSpec:
    return MetricSpec(attribute, f"{PREFIX}{attribute}", Kind.HISTOGRAM, unit, help, labels, buckets)


_HTTP = (
    _counter(
        "http_requests",
        "Requests answered, by route template and class of status.",
        ROUTE,
        METHOD,
        Label("status_class", ("1xx", "2xx", "3xx", "4xx", "5xx")),
    ),
    _histogram(
        "http_request_duration_seconds",
        "Time from a request's first byte read to its answer's last byte sent.",
        ROUTE,
        METHOD,
        buckets=LATENCY_BUCKETS,
    ),
    _gauge("http_in_flight", "Requests being answered now."),
    _counter(
        "rate_limited",
        "Requests refused by a rate limit, by the key's tier.",
        Label("tier", ("free", "standard", "pro", "anonymous")),
    ),
)

_STORES = (
    _counter(
        "database_reads",
        "A tenant's reads where there are replicas: whether a replica had the tenant's last write, or why the writer "
        "was asked.",
        Label("where", ("replica", "writer_replica_behind", "writer_position_unknown", "writer_replica_away")),
    ),
    _gauge(
        "part_up",
        "1 where a part of the process was well when its readiness was last looked at, else 0.",
        Label("part", source="parts of app/container/parts.py, and 'sample'"),
    ),
)

_MODEL = (
    _histogram(
        "model_call_duration_seconds",
        "Time of one call to a model provider.",
        PROVIDER,
        MODEL_ROUTE,
        Label("outcome", ("ok", "error", "timeout", "rate_limited", "cancelled")),
        buckets=CALL_BUCKETS,
    ),
    _histogram(
        "model_first_token_seconds",
        "Time from a streamed model call's start to the first piece of its answer.",
        PROVIDER,
        MODEL_ROUTE,
        buckets=CALL_BUCKETS,
    ),
    _counter(
        "model_tokens",
        "Tokens of model calls.",
        PROVIDER,
        Label("direction", ("input", "output", "cached")),
        unit="tokens",
    ),
    _counter("model_cost_usd", "Cost of model calls in US dollars, by the price list.", PROVIDER, unit="usd"),
    _counter("model_fallbacks", "Calls that went on to the next provider of their route.", MODEL_ROUTE),
    _counter(
        "model_retries",
        "Failed model calls that were worth another attempt, by whether the provider's retry budget had one left.",
        PROVIDER,
        Label("result", ("made", "withheld")),
    ),
    _gauge(
        "breaker_state",
        "State of a circuit breaker: 0 closed, 1 half open, 2 open.",
        Label("name", source="model providers and tools, one breaker each"),
    ),
)

_TOOLS = (
    _counter(
        "tool_calls",
        "Tool calls by how they ended.",
        TOOL,
        Label("outcome", ("done", "failed", "denied", "waiting_approval", "parked", "skipped")),
    ),
    _histogram("tool_duration_seconds", "Time of one tool call, retries included.", TOOL, buckets=CALL_BUCKETS),
    _counter(
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
    _histogram(
        "mcp_call_duration_seconds",
        "Time of one call of a tool by MCP.",
        Label("server", source="servers of TRELLIS_MCP_SERVERS_FILE, and 'trellis'"),
        buckets=CALL_BUCKETS,
    ),
    _gauge("effects_parked", "Tool effects of unknown fate that wait for a person."),
    _gauge("approvals_pending", "Tool calls that wait for a person's approval."),
)

_AGENT = (
    _counter(
        "budget_refusals",
        "Runs refused because a budget was spent, by whose budget it was.",
        Label("scope", ("request", "tenant")),
    ),
    _histogram("agent_steps", "Model turns of one agent run.", buckets=STEP_BUCKETS, unit="steps"),
    _histogram(
        "agent_run_duration_seconds",
        "Time of one agent run, model and tools included.",
        AGENT,
        Label("outcome", ("done", "failed", "refused", "timeout", "cancelled")),
        buckets=CALL_BUCKETS,
    ),
)

_CACHES = (
    _counter(
        "cache_requests",
        "Look-ups in a cache by where they ended: in process (l1), in Redis (l2) or in neither; 'shared' joined a call "
        "that was under way, 'bypass' could not be answered from a cache, 'off' found it switched off.",
        CACHE,
        Label("tier", ("l1", "l2", "none")),
        Label("result", ("hit", "miss", "shared", "bypass", "off")),
    ),
    _gauge("cache_entries", "Entries that this process keeps.", CACHE),
    _gauge("cache_bytes", "Bytes that this process's entries take.", CACHE, unit="bytes"),
    _counter("cache_saved_usd", "Cost in US dollars of the model calls that a cache spared.", CACHE, unit="usd"),
    _gauge("redis_away", "Nodes of Redis that this process leaves alone for a moment because they did not answer."),
    _counter(
        "redis_fallbacks",
        "What was done without Redis while it was away: a look-up in a cache missed or a drop is owed (cache), a "
        "request was counted by this process alone (limiter), a turn went on without the earlier ones or was not kept "
        "(memory), a read went to the writer (marks).",
        Label("use", ("cache", "limiter", "marks", "memory")),
    ),
)

_KNOWLEDGE = (
    _histogram("retrieval_duration_seconds", "Time of one retrieval, cache included.", buckets=LATENCY_BUCKETS),
    _counter(
        "retrieval_requests",
        "Retrievals by what they found.",
        Label("result", ("found", "empty", "error")),
    ),
    _gauge("documents", "Documents of all bots, by how far they are.", Label("status", STATUSES)),
    _counter(
        "ingest_documents",
        "Documents taken into an index, by how it ended; 'overtaken' made room for newer content or a deletion.",
        Label("outcome", ("ready", "unchanged", "overtaken", "failed")),
    ),
    _counter("ingest_chunks", "Chunks embedded and stored."),
    _histogram(
        "ingest_duration_seconds", "Time to take one document in, reading its file included.", buckets=JOB_BUCKETS
    ),
    _counter("quarantined_chunks", "Chunks kept out of evidence because they carry instructions to the agent."),
)

_DECISIONS = (
    _counter("decisions", "Decisions made.", PACK, Label("action", source="actions that the pack declares")),
    _histogram("decision_duration_seconds", "Time of one decision, all included.", PACK, buckets=CALL_BUCKETS),
    _histogram(
        "own_share_seconds",
        "Time of one decision without its model calls: our own share.",
        PACK,
        buckets=OWN_BUCKETS,
    ),
)

_CONVERSATION = (
    _counter(
        "answers",
        "Turns of conversations by how they ended, and by the cache that gave the answer; 'shared' joined a turn that "
        "was under way.",
        PACK,
        Label("outcome", ("answered", "refused", "failed", "cancelled")),
        Label("cache", ("none", "exact", "semantic", "shared")),
    ),
    _counter(
        "answer_feedback",
        "Answers that a user judged for the first time.",
        PACK,
        Label("helpful", ("true", "false")),
    ),
    _histogram(
        "answer_first_token_seconds",
        "Time from a question to the first piece of its answer, where no exact answer was kept.",
        PACK,
        buckets=CALL_BUCKETS,
    ),
)

_JOBS = (
    _gauge("jobs_queue_depth", "Jobs waiting in a queue.", QUEUE),
    _gauge("jobs_oldest_age_seconds", "Age of the oldest job waiting in a queue.", QUEUE, unit="seconds"),
    _counter("jobs_finished", "Jobs that ended.", JOB, Label("outcome", ("done", "failed", "cancelled"))),
    _histogram("job_duration_seconds", "Time of one job from its start to its end.", JOB, buckets=JOB_BUCKETS),
)

_TOPIC = Label("topic", source="the topics that packs declare (app.messages.base.Topic)")
_MESSAGES = (
    _counter(
        "messages", "Messages from agent to agent.", _TOPIC, Label("outcome", ("answered", "failed", "unanswered"))
    ),
    _histogram(
        "message_duration_seconds", "Time from asking another agent to its answer.", _TOPIC, buckets=JOB_BUCKETS
    ),
)

_BUSINESS = (
    _counter(
        "leads_received",
        "Leads taken in, by how they came in touch.",
        Label("source", ("web_form", "email", "event", "referral", "partner", "import")),
    ),
    _counter("lead_outcomes", "Outcomes reported.", Label("kind", source="outcome kinds of app/packs/leads")),
    _histogram(
        "first_response_seconds",
        "Time from a lead's arrival to the first answer sent to it.",
        buckets=WAIT_BUCKETS,
    ),
    _counter(
        "escalations",
        "Escalations by a person's judgement of whether each was necessary.",
        Label("necessary", ("true", "false")),
    ),
)

_TEAMS = (
    _counter(
        "teams_questions",
        "Questions put to teams of agents, by how they ended; 'partial' was answered and says what is missing.",
        TEAM,
        Label("outcome", ("done", "partial", "failed", "refused", "unavailable", "cancelled")),
    ),
    _counter(
        "teams_tasks",
        "Sub-questions that members of teams had, by how they ended.",
        Label("member", source="members that app/packs/teams/teams.yaml names"),
        Label("state", ("done", "failed", "timeout", "refused", "skipped")),
    ),
    _counter(
        "teams_health_scores",
        "Health scores that were stored of clients, by what they came to.",
        Label("state", ("healthy", "watch", "at_risk")),
    ),
    _counter(
        "teams_syncs",
        "Clients whose news were asked for, by where and how it ended.",
        Label("source", ("crm", "code")),
        Label("result", ("done", "failed")),
    ),
    _histogram(
        "teams_question_duration_seconds", "Time from a team's question to its answer.", TEAM, buckets=CALL_BUCKETS
    ),
)

_RUNS = (
    _counter(
        "treatments_customers",
        "Customers that runs decided, by what came of it before any allocation.",
        Label("state", ("proposed", "none", "control", "set_aside")),
    ),
    _histogram(
        "treatments_chunk_duration_seconds",
        "Time of one chunk of customers, from its first question to its results.",
        buckets=JOB_BUCKETS,
    ),
    _counter(
        "treatments_runs",
        "Runs of treatments that came into a state.",
        Label("state", ("queued", "running", "paused", "allocating", "done", "cancelled", "failed")),
    ),
    _histogram(
        "treatments_allocation_gap",
        "How far an allocation's score is from what no allocation can pass, as a share of the latter.",
        buckets=GAP_BUCKETS,
        unit="",
    ),
    _histogram("treatments_allocation_seconds", "Time of the search for one allocation.", buckets=JOB_BUCKETS),
    _counter(
        "treatments_reservations",
        "Reservations of a treatment's unit that came into a state.",
        Label("state", ("held", "confirmed", "released", "expired")),
    ),
)

_RECOMMENDATION = (
    _counter(
        "treatments_answers",
        "Customers by where their recommendation came from: an answer that was there, a model call, one after its "
        "batch was split, or a rule where there was nothing to ask.",
        Label("source", ("shared", "model", "split", "rule", "set_aside")),
    ),
    _histogram(
        "treatments_model_batch_size",
        "Profiles of customers in one model call.",
        buckets=(1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 50.0, 100.0),
        unit="",
    ),
)

_HOUSE = (
    _counter("audit_entries", "Entries appended to the audit log."),
    _gauge(
        "build_info",
        "Always 1; the labels say which build runs as which phase.",
        Label("version", source="the package's version"),
        Label("phase", source="infra/phases.py"),
    ),
    _gauge(
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
    model_call_duration_seconds: Histogram
    model_first_token_seconds: Histogram
    model_tokens: Counter
    model_cost_usd: Counter
    model_fallbacks: Counter
    model_retries: Counter
    breaker_state: Gauge
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
    documents: Gauge
    ingest_documents: Counter
    ingest_chunks: Counter
    ingest_duration_seconds: Histogram
    quarantined_chunks: Counter
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
