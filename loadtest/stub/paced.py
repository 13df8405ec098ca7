"""A model that is asked by the app under load: paced as a stated one, answers what the app's prompts ask for.

python -m loadtest.stub.paced 0 --pace hosted    prints its address, and serves until it is ended

It decides where a decision is asked for, else answers with a citation; calls a tool where its pace says so. Lengths and
times are drawn from the seed. A token is one word of an answer, which is one event of a stream; a request has one for
each four of its characters.
"""

import argparse
import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson
import uvloop

from loadtest.stub.answers import Message, text, tool_then_text
from loadtest.stub.checks import Fault, error
from loadtest.stub.pace import PACES, Draws, ModelPace
from loadtest.stub.server import KINDS, Cut, ModelStub, chances, serve

DECIDE: Final = "You decide what happens next with one sales lead."
_CHARACTERS: Final = 4
_WORDS: Final = (
    "the",
    "page",
    "says",
    "so",
    "and",
    "whoever",
    "asks",
    "may",
    "have",
    "it",
    "in",
    "writing",
    "at",
    "any",
    "time",
)
_BURST_S: Final = 1.0
_WISH: Final = re.compile(r"Answer in (\d+) words\.")


class _Waits:
    """`Latency` of a pace."""

    zero = False

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def of(self, pieces: int) -> Sequence[float]:
        """The event that opens an answer comes with its first token, the one that ends it with its last."""
        first, *others = self._draws.waits(max(1, pieces - 2))
        return [first, 0.0, *others, 0.0][:pieces]


class PacedStub(ModelStub):
    """`async with PacedStub(pace) as stub:`, as `ModelStub`; `count()` has `kinds` and `limited` beside."""

    def __init__(
        self, pace: ModelPace, *, seed: int = 0, port: int = 0, chances: Mapping[str, float] | None = None
    ) -> None:
        draws = Draws(pace, seed)
        waits: Any = _Waits(draws)
        super().__init__(latency=waits, port=port, seed=seed, keep=False, chances=chances or {})
        self._pace, self._draws = pace, draws
        self._kinds = Counter[str]()
        self._limited = 0
        self._due = 0.0

    def count(self) -> dict[str, Any]:
        return super().count() | {"kinds": dict(self._kinds), "limited": self._limited}

    def said(self, body: Mapping[str, Any]) -> tuple[Message, Mapping[str, Any]]:
        message = self._message(body)
        return message, usage(body, message)

    def trouble(self) -> Fault | Cut | None:
        """The rate limit first: a real one looks at nothing else of a request."""
        if self._pace.requests_s and self._over():
            self._limited += 1
            return error(429, "Rate limit reached for requests.", code="rate_limit_exceeded", Retry_After="1")
        return super().trouble()

    def _over(self) -> bool:
        """A second's worth may come at once, then one each 1/rate seconds (GCRA)."""
        now = time.monotonic()
        due = max(self._due, now - _BURST_S)
        if due > now:
            return True
        self._due = due + 1 / self._pace.requests_s
        return False

    def _message(self, body: Mapping[str, Any]) -> Message:
        count = _wished(body) or self._draws.tokens()
        if DECIDE in str(body["messages"][0].get("content")):
            self._kinds["decision"] += 1
            return text(_decision(count))(body)
        if body.get("tools") and body["messages"][-1]["role"] != "tool" and self._draws.chance(self._pace.tool_share):
            self._kinds["tool call"] += 1
            return tool_then_text("")(body)
        self._kinds["answer"] += 1
        return text(f"{_prose(count - 1)} [1]")(body)


def _wished(body: Mapping[str, Any]) -> int:
    """Tokens of an answer that is asked for so long, as a replayed trace does; 0 where it is left to the pace."""
    wish = _WISH.search(str(body["messages"][-1].get("content") or ""))
    return int(wish[1]) if wish else 0


def usage(body: Mapping[str, Any], message: Message) -> Mapping[str, Any]:
    """Counted from the texts."""
    asked = sum(len(str(each.get("content") or "")) for each in body["messages"])
    prompt = math.ceil(asked / _CHARACTERS)
    calls = sum(len(str(call["function"]["arguments"])) for call in message.get("tool_calls", ()))
    written = len((message.get("content") or "").split()) + math.ceil(calls / _CHARACTERS)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _prose(words: int) -> str:
    return " ".join(_WORDS[place % len(_WORDS)] for place in range(max(1, words)))


def _decision(tokens: int) -> str:
    decision = {"action": "nurture", "confidence": 0.8, "reason": "Interested, but not now.", "evidence": []}
    letter = {"subject": "Your question", "reply": f"Thank you: {_prose(tokens)}.", "follow_up_days": 14}
    return orjson.dumps(decision | letter).decode()


def command(pace: ModelPace, *, seed: int = 0, faults: Mapping[str, float] | None = None) -> list[str]:
    """The arguments after the interpreter of a process that serves it on a free port."""
    chosen = [part for kind, share in (faults or {}).items() for part in ("--fault", f"{kind}={share}")]
    return [
        "-m",
        "loadtest.stub.paced",
        "0",
        "--pace",
        orjson.dumps(asdict(pace)).decode(),
        "--seed",
        str(seed),
        *chosen,
    ]


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.stub.paced", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--pace", required=True, help=f"{', '.join(PACES)}, or a ModelPace as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], metavar="KIND=SHARE", help=", ".join(KINDS))
    given = parser.parse_args()
    try:
        pace = PACES[given.pace] if given.pace in PACES else ModelPace(**orjson.loads(given.pace))
    except (ValueError, TypeError) as error:
        parser.error(f"--pace takes one of {', '.join(PACES)}, or a ModelPace as JSON: {error}")
    uvloop.run(serve(PacedStub(pace, seed=given.seed, port=given.port, chances=chances(parser, given.fault))))


if __name__ == "__main__":
    main()
