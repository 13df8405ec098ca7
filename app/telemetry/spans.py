"""Names and attributes of the spans that the app opens itself.

Attribute names follow OpenTelemetry's generative AI conventions where they have one
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). No span carries a prompt, an answer, a tool's
arguments or its result: those hold what people wrote.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.types import AttributeValue

AGENT_RUN: Final = "agent.run"
MODEL_CALL: Final = "model.call"
TOOL_EXECUTE: Final = "tool.execute"
MCP_CALL: Final = "mcp.call"
MCP_SERVE: Final = "mcp.serve"
TEAM_QUESTION: Final = "team.question"
TEAM_MEMBER: Final = "team.member"
KNOWLEDGE_PARSE: Final = "knowledge.parse"
KNOWLEDGE_EMBED: Final = "knowledge.embed"
KNOWLEDGE_UPSERT: Final = "knowledge.upsert"

HTTP_ROUTE: Final = "http.route"
AGENT: Final = "gen_ai.agent.name"
PROMPT: Final = "trellis.prompt"
PROMPT_VERSION: Final = "trellis.prompt.version"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
ROUTE: Final = "trellis.model.route"
STEPS: Final = "trellis.agent.steps"
TOOL: Final = "gen_ai.tool.name"
TOOL_STATE: Final = "trellis.tool.state"
MCP_SERVER: Final = "trellis.mcp.server"
TEAM: Final = "trellis.team"
MEMBER: Final = "trellis.team.member"
TASK: Final = "trellis.team.task"
TASK_STATE: Final = "trellis.team.task.state"
CHUNKS: Final = "trellis.knowledge.chunks"
MEDIA_TYPE: Final = "trellis.knowledge.media_type"


def tracer() -> trace.Tracer:
    """The app's tracer: free of cost until a tracer provider is set up."""
    return _tracer_of(trace.get_tracer_provider())


# The SDK makes a new tracer for each who asks, which costs more than a span that is not sampled.
@lru_cache(maxsize=4)
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer("trellis")


def span(name: str, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[trace.Span]:
    """A span around a block. It shows that an exception passed, but not its chain, which may quote an answer."""
    return tracer().start_as_current_span(name, attributes=attributes, record_exception=False)


@contextmanager
def open_span(name: str, attributes: Mapping[str, AttributeValue]) -> Iterator[trace.Span]:
    """A span that is not the current one, for a block that yields: its consumer's work is not part of it.

    `inside` makes it the current one where the block waits.
    """
    span = tracer().start_span(name, attributes=attributes)
    try:
        yield span
    except Exception as error:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        span.end()


def name_request(method: str, route: str) -> None:
    """Gives the request's span, which is the current one, the name and the route that routing would have given it."""
    span = trace.get_current_span()
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attribute(HTTP_ROUTE, route)


def inside(span: trace.Span) -> AbstractContextManager[trace.Span]:
    """The span as the current one, for a block without a yield."""
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)
