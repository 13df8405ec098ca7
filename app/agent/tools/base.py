"""What a tool is, what is asked of it, and what came of it."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel

from app.agent.model import ToolSpec
from app.errors import ConfigError
from app.principal import Principal

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNKNOWN_TOOL: Final = "unknown"


class Effect(StrEnum):
    """READ changes nothing outside; WRITE does, and goes through policy, ledger and, where asked, approval."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who calls, for which subject, and the key that makes a write one and the same however often it is asked for."""

    principal: Principal
    key: str
    subject_id: str


@dataclass(frozen=True, slots=True)
class Tool:
    """One thing that an agent can do.

    `args` and `returns` are pydantic types; a result that does not fit `returns`, or is not JSON, is an error.
    `run` is cancelled after `timeout_s` seconds, and tried at most `attempts` times: again only after an error
    that may pass (`retryable`), and, where the tool writes and is not `idempotent`, only after one that surely
    left no effect (`uncertain` is False). `idempotent`: the same key twice has the effect of once, also
    when the first answer was lost. `for_users`: an end user's turn may run it too; only for what shows nobody more than
    their own, or what is meant for everybody. `for_agents`: other agents may call it by MCP, with a key of the tenant.
    """

    name: str
    description: str
    args: type[BaseModel]
    run: Callable[[ToolContext, Any], Awaitable[Any]]
    effect: Effect
    timeout_s: float = 10
    attempts: int = 2
    idempotent: bool = False
    returns: type[BaseModel] | None = None
    for_users: bool = False
    for_agents: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether running it again after an unknown end is safe."""
        return self.effect is Effect.READ or self.idempotent


@dataclass(frozen=True, slots=True)
class ToolCallPlan:
    """One call to make. `key` is unique in its tenant for ever where the tool writes; `after` names other keys."""

    tool: str
    args: Mapping[str, Any]
    key: str
    after: tuple[str, ...] = ()


class OutcomeState(StrEnum):
    """How a call ended.

    `failed`: without effect, or of a tool that may safely be asked again. `denied`: by policy or a person.
    `parked`: it may have happened, a person has to look. `skipped`: something that it comes after was not done.
    """

    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"
    WAITING_APPROVAL = "waiting_approval"
    PARKED = "parked"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of one planned call. `result` holds JSON values; `error` is one sentence, "" where it is done."""

    tool: str
    key: str
    state: OutcomeState
    result: Any = None
    error: str = ""
    duration_ms: float = 0.0
    effect: Effect = Effect.READ

    def as_row(self) -> dict[str, Any]:
        """The entry of a decision's `tool_calls`; the result stays in the ledger."""
        return {
            "tool": self.tool,
            "effect": self.effect.value,
            "state": self.state.value,
            "key": self.key,
            "duration_ms": round(self.duration_ms, 3),
            "detail": self.error,
        }


class ToolRegistry:
    """Every tool of the application. Raises ConfigError for a name that is taken or that models do not take."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        self._specs: dict[str, ToolSpec] = {}
        self.add(tools)

    def add(self, tools: Iterable[Tool]) -> None:
        """Further tools. Raises ConfigError as the constructor does."""
        for tool in tools:
            if not _NAME.fullmatch(tool.name) or tool.name == UNKNOWN_TOOL:
                raise ConfigError(f"'{tool.name}' is no name for a tool: use 1-64 letters, digits, '_' and '-'.")
            if tool.name in self._tools:
                raise ConfigError(f"Two tools are called '{tool.name}': rename one.")
            if tool.timeout_s <= 0 or tool.attempts < 1:
                raise ConfigError(f"The tool '{tool.name}' needs a time limit above 0 and at least one attempt.")
            self.replace([tool])

    def replace(self, tools: Iterable[Tool]) -> None:
        """Puts each in the place of the one of its name: what it takes is known better by now."""
        for tool in tools:
            self._tools[tool.name] = tool
            self._specs[tool.name] = ToolSpec(tool.name, tool.description, tool.args.model_json_schema())

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def spec(self, name: str) -> ToolSpec:
        """The tool as a model sees it. Raises ConfigError where it is not registered."""
        spec = self._specs.get(name)
        if spec is None:
            raise ConfigError(f"There is no tool '{name}': an agent names it, but no pack registers it.")
        return spec

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._tools))
