"""Every name of spans and their attributes, in one place: the conventions for generative AI are still being renamed.

Names that begin with `gen_ai.` are those of OpenTelemetry's generative AI conventions, in development, as of July 2026
(https://github.com/open-telemetry/semantic-conventions-genai; the main conventions hold them no more since 1.42).
HTTP and database names are the stable ones of 1.44. What has no convention begins with `trellis.`.

No span carries a prompt, an answer, a question, a tool's arguments or its result: those hold what people wrote. The
conventions' attributes for them (`gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`,
`gen_ai.tool.call.arguments`, `gen_ai.retrieval.query.text` and their like) are therefore not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# Operations: the first word of a span's name, and the value of `OPERATION`.
CHAT: Final = "chat"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
EMBEDDINGS: Final = "embeddings"
RETRIEVAL: Final = "retrieval"

OPERATION: Final = "gen_ai.operation.name"
AGENT: Final = "gen_ai.agent.name"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
ANSWERED_BY: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
STREAMED: Final = "gen_ai.request.stream"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
DIMENSION: Final = "gen_ai.embeddings.dimension.count"
TOOL: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
DATA_SOURCE: Final = "gen_ai.data_source.id"

ERROR_TYPE: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
URL_FULL: Final = "url.full"
URL_QUERY: Final = "url.query"
DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
DB_QUERY: Final = "db.query.text"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACK: Final = "exception.stacktrace"

SERVICE: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"
DEPLOYMENT: Final = "deployment.environment.name"
REGION: Final = "cloud.region"
PHASE: Final = "trellis.phase"

MCP_CALL: Final = "mcp.call"
MCP_SERVE: Final = "mcp.serve"
TEAM_QUESTION: Final = "team.question"
TEAM_MEMBER: Final = "team.member"
KNOWLEDGE_PARSE: Final = "knowledge.parse"
KNOWLEDGE_UPSERT: Final = "knowledge.upsert"

REQUEST_ID: Final = "trellis.request.id"
DECISION_ID: Final = "trellis.decision.id"
JOB: Final = "trellis.job"
JOB_ID: Final = "trellis.job.id"
JOB_QUEUE: Final = "trellis.job.queue"
DRAWN: Final = "trellis.trace.drawn"
LASTS: Final = "trellis.lasts"
"""On a request that is meant to stay open, a stream: its length says nothing about being slow."""
PROMPT: Final = "trellis.prompt"
PROMPT_VERSION: Final = "trellis.prompt.version"
ROUTE: Final = "trellis.model.route"
COST_USD: Final = "trellis.cost.usd"
STEPS: Final = "trellis.agent.steps"
TOOL_STATE: Final = "trellis.tool.state"
MCP_SERVER: Final = "trellis.mcp.server"
TEAM: Final = "trellis.team"
MEMBER: Final = "trellis.team.member"
TASK: Final = "trellis.team.task"
TASK_STATE: Final = "trellis.team.task.state"
CHUNKS: Final = "trellis.knowledge.chunks"
MEDIA_TYPE: Final = "trellis.knowledge.media_type"
PASSAGES: Final = "trellis.retrieval.passages"

IDS: Final = (REQUEST_ID, DECISION_ID, JOB_ID)
"""By each of these a trace that is kept here is found, beside its own id."""


def named(operation: str, what: str) -> str:
    """A span's name as the conventions make it: `chat gpt-5`, `execute_tool crm_lookup`."""
    return f"{operation} {what}" if what else operation


@dataclass(frozen=True, slots=True)
class Convention:
    """What the conventions call a metric of the catalogue. Labels that `labels` does not name keep their own names.

    Args:
        labels: attributes by label.
        constant: attributes that all its series have.
        values: what a label's value is called there; None leaves the attribute out.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    constant: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str | None] = field(default_factory=dict)

    def attributes_of(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        named = {self.labels.get(name, name): self.values.get(value, value) for name, value in labels.items()}
        return {**self.constant, **{name: value for name, value in named.items() if value is not None}}


_CALL: Final = {OPERATION: CHAT}
_OF_MODELS: Final = {"provider": PROVIDER, "route": ROUTE}
METRICS: Final[Mapping[str, Convention]] = {
    "trellis_model_call_duration_seconds": Convention(
        "gen_ai.client.operation.duration", {**_OF_MODELS, "outcome": ERROR_TYPE}, _CALL, {"ok": None}
    ),
    "trellis_model_first_token_seconds": Convention("gen_ai.client.operation.time_to_first_chunk", _OF_MODELS, _CALL),
    "trellis_model_call_tokens": Convention(
        "gen_ai.client.token.usage", {"provider": PROVIDER, "direction": "gen_ai.token.type"}, _CALL
    ),
    "trellis_http_request_duration_seconds": Convention(
        "http.server.request.duration", {"route": HTTP_ROUTE, "method": HTTP_METHOD}, values={"other": "_OTHER"}
    ),
}
"""By the family's name at `/metrics`."""
