"""Names and attributes of the spans that the app opens itself.

Attribute names follow OpenTelemetry's generative AI conventions where they have one
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). No span carries a prompt, an answer, a tool's
arguments or its result: those hold what people wrote.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

AGENT_RUN: Final = "agent.run"
MODEL_CALL: Final = "model.call"
TOOL_EXECUTE: Final = "tool.execute"

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


def tracer() -> trace.Tracer:
    """The app's tracer: free of cost until a tracer provider is set up."""
    return trace.get_tracer("trellis")


def span(name: str, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[trace.Span]:
    """A span around a block. It shows that an exception passed, but not its chain, which may quote an answer."""
    return tracer().start_as_current_span(name, attributes=attributes, record_exception=False)
