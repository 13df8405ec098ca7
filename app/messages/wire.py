"""Messages as bytes: JSON of the topic's dataclasses, and errors that come out as what they went in."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from app.errors import TrellisError

_UNSENT: Final = ("detail", "extra")


class Unreadable(TrellisError):
    """A message that is not what its topic declares: another version of the program sent it."""

    status, code, title = 500, "message-unreadable", "A message between agents cannot be read"


class HandlerFailed(TrellisError):
    """The agent that was asked raised something that is no answer for a caller; its own log says what."""

    status, code, title = 500, "handler-failed", "Another agent failed"


_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(maxsize=256)(TypeAdapter)


def dump(message: Any) -> bytes:
    """A topic's dataclass as JSON."""
    return orjson.dumps(message)


def load(kind: type[Any], data: bytes) -> Any:
    """The dataclass again. Raises Unreadable."""
    try:
        return _adapter(kind).validate_json(data)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise Unreadable(f"A {kind.__name__} cannot be read at {where}: {first['msg']}.") from None


def dump_error(error: Exception) -> bytes:
    """What went wrong. Of an error that is not ours only the class is told: its text may hold what is not for all."""
    if not isinstance(error, TrellisError):
        return orjson.dumps({"code": HandlerFailed.code, "detail": f"The agent raised {type(error).__name__}."})
    own = {name: value for name, value in vars(error).items() if name not in _UNSENT and _plain(value)}
    return orjson.dumps({"code": error.code, "detail": error.detail, "extra": dict(error.extra), "own": own})


def load_error(data: bytes) -> TrellisError:
    """The same kind of error; HandlerFailed where this program knows no such kind."""
    told = orjson.loads(data)
    kind = next((kind for kind in _kinds(TrellisError) if vars(kind).get("code") == told["code"]), HandlerFailed)
    # Each kind has its own arguments: what they made of it came along.
    error = kind.__new__(kind)
    TrellisError.__init__(error, told["detail"], **told.get("extra", {}))
    vars(error).update(told.get("own", {}))
    return error


def _kinds(kind: type[TrellisError]) -> Iterator[type[TrellisError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
