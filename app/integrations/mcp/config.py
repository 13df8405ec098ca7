"""The file that names the MCP servers whose tools join ours (`TRELLIS_MCP_SERVERS_FILE`), in YAML or JSON."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from yarl import URL

from app.errors import ConfigError

_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_NAME: Final = re.compile(r"auth|cookie|credential|key|password|secret|token", re.IGNORECASE)
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME: Final = 64

ToolName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Tools = Annotated[tuple[ToolName, ...], Field(max_length=100)]


class ServerSpec(BaseModel):
    """One server, by `command` (a child process that talks over its standard streams) or by `url` (streamable HTTP).

    Only the tools in `allow` are mounted. Each writes, unless it is in `read` and the server too says that it only
    reads (`readOnlyHint`), or it is in `read_without_hint`: then the operator's word alone counts. `tenants` may use
    the server; every tenant where it is left out. In `env` and `headers`, `${NAME}` stands for a variable of this
    process's environment. `timeout_s` bounds one call in seconds, `max_result_chars` what of a result is passed on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,19}$")]
    command: Annotated[str, StringConstraints(min_length=1)] | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: Path | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    allow: Annotated[Tools, Field(min_length=1)]
    read: Tools = ()
    read_without_hint: Tools = ()
    timeout_s: float = Field(30, gt=0, le=600)
    max_result_chars: int = Field(20_000, ge=100, le=50_000)
    tenants: frozenset[str] | None = None

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("it needs an address that starts with http:// or https://")
        if parsed.user or parsed.password:
            raise ValueError("an address holds no password: put it into 'headers' as ${NAME}")
        return url

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("it needs either 'command' or 'url'")
        if self.url is None and self.headers:
            raise ValueError("'headers' belong to a server with 'url'")
        if self.url is not None and (self.args or self.env or self.cwd):
            raise ValueError("'args', 'env' and 'cwd' belong to a server with 'command'")
        for name in (*self.read, *self.read_without_hint):
            if name not in self.allow:
                raise ValueError(f"'{name}' may read but is not in 'allow'")
        for name, value in {**self.env, **self.headers}.items():
            if _SECRET_NAME.search(name) and not _REFERENCE.search(value):
                raise ValueError(f"'{name}' looks like a secret: write ${{NAME}}, and set NAME in the environment")
        return self

    @property
    def origin(self) -> str:
        """Where it is, for people: the command or the address's host."""
        return self.command or URL(self.url or "").host or ""

    def is_for(self, tenant_id: str) -> bool:
        return self.tenants is None or tenant_id in self.tenants

    def tool_name(self, remote: str) -> str:
        """What the tool is called here. Raises ConfigError where that is longer than a name may be."""
        name = f"mcp_{self.name}_{_NOT_IN_NAMES.sub('_', remote)}"
        if len(name) > _LONGEST_NAME:
            raise ConfigError(
                f"The tool '{remote}' of the MCP server '{self.name}' would be called '{name}', which is longer than "
                f"{_LONGEST_NAME} characters: give the server a shorter name."
            )
        return name


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    servers: Annotated[tuple[ServerSpec, ...], Field(max_length=50)]


def load_servers(path: Path, environ: Mapping[str, str]) -> tuple[ServerSpec, ...]:
    """The servers of the file, each `${NAME}` replaced by its value in `environ`.

    Raises ConfigError: one sentence that names the file, the server and what to mend.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"TRELLIS_MCP_SERVERS_FILE: {path} cannot be read ({type(error).__name__}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"TRELLIS_MCP_SERVERS_FILE: {path} is neither YAML nor JSON: {_place(error)}.") from error
    try:
        servers = _File.model_validate(content).servers
    except ValidationError as error:
        raise ConfigError(f"TRELLIS_MCP_SERVERS_FILE: {path}: {_sentence(error, content)}") from None
    _refuse_same_names(servers, path)
    return tuple(_resolved(server, environ) for server in servers)


def _refuse_same_names(servers: tuple[ServerSpec, ...], path: Path) -> None:
    names = [server.name for server in servers]
    names += [server.tool_name(tool) for server in servers for tool in server.allow]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"TRELLIS_MCP_SERVERS_FILE: {path}: '{twice}' is there twice: rename or leave out one.")


def _resolved(server: ServerSpec, environ: Mapping[str, str]) -> ServerSpec:
    def value(match: re.Match[str]) -> str:
        found = environ.get(match[1])
        if not found:
            raise ConfigError(
                f"The MCP server '{server.name}' needs the environment variable {match[1]}, which is not set."
            )
        return found

    def filled(values: Mapping[str, str]) -> dict[str, str]:
        return {name: _REFERENCE.sub(value, text) for name, text in values.items()}

    return server.model_copy(update={"env": filled(server.env), "headers": filled(server.headers)})


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else "it cannot be parsed"


def _sentence(error: ValidationError, content: Any) -> str:
    """What is wrong first (an unknown key before all), without the value: that may be a secret."""
    errors = error.errors(include_input=False, include_url=False)
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    where, key = _server_of(first["loc"], content), str(first["loc"][-1] if first["loc"] else "servers")
    if first["type"] == "extra_forbidden":
        known = _File.model_fields if len(first["loc"]) == 1 else ServerSpec.model_fields
        near = difflib.get_close_matches(key, known, n=1)
        return f"{where}the key '{key}' is unknown{f': did you mean {near[0]}?' if near else ': remove it.'}"
    if first["type"] == "missing":
        return f"{where}the key '{key}' is missing."
    if first["type"] == "model_type":
        return f"{where}it is no mapping; the file is a list of servers under the key 'servers'."
    inner = ".".join(str(part) for part in first["loc"] if part != "servers").partition(".")[2]
    return f"{where}{_quoted(inner)}{first['msg'].removeprefix('Value error, ')}."


def _quoted(key: str) -> str:
    return f"'{key}': " if key else ""


def _server_of(loc: tuple[int | str, ...], content: Any) -> str:
    match loc, content:
        case ("servers", int(number), *_), {"servers": list(servers)}:
            named = servers[number].get("name") if isinstance(servers[number], dict) else None
            return f"server '{named}': " if isinstance(named, str) else f"server {number + 1}: "
    return ""
