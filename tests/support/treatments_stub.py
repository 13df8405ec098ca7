"""The model stub as one that proposes treatments: judges the numbered profiles of a prompt by the cases they show.

It counts tokens from the texts themselves (four characters each), takes as long as it writes, lets no more tokens
pass in a second than a provider's limit would, and writes a share of its answers wrongly.

As a process of its own: `python -m tests.support.treatments_stub --base-ms 10 --token-ms 0.1` prints its address;
`GET /count` says what it was asked so far.
"""

import argparse
import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, cast

import orjson
import uvloop

from app.agent.model import estimate_tokens
from loadtest.stub.server import Latency, ModelStub

CACHED_FROM, CACHED_STEP = 1024, 128
"""OpenAI, "Prompt caching": prefixes from 1,024 tokens on, in steps of 128."""
REASON = "Similar customers did the same before"
Breakage = Literal["garbled", "missing", "forbidden"]
KINDS: tuple[Breakage, ...] = ("garbled", "missing", "forbidden")


class TreatmentsStub(ModelStub):
    """Times in seconds. `tokens_per_s` None: no limit. `broken` is the share of answers that are wrong."""

    def __init__(
        self,
        *,
        base_s: float = 0.0,
        token_s: float = 0.0,
        tokens_per_s: float | None = None,
        broken: float = 0.0,
        seed: int = 0,
        port: int = 0,
    ) -> None:
        super().__init__(latency=Latency(max(base_s, 1e-6)), port=port, keep=False, seed=seed)
        self._base_s, self._token_s = base_s, token_s
        self._tokens_per_s = tokens_per_s
        self._broken = broken
        self._times_asked: Counter[str] = Counter()
        self._prefixes: set[str] = set()
        self._free_at = 0.0
        self._in_flight = 0
        self.tokens: Counter[str] = Counter()
        self.work_s = 0.0
        self.longest_s = 0.0
        self.most_in_flight = 0

    async def whole(self, body: Mapping[str, Any]) -> bytes:
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            text, finish_reason = self._said(body)
            usage = self._usage(body, text)
            await self._pass(usage["total_tokens"])
            took = self._base_s + self._token_s * usage["completion_tokens"]
            self.work_s += took
            self.longest_s = max(self.longest_s, took)
            await asyncio.sleep(took)
        finally:
            self._in_flight -= 1
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        told = {"id": f"chatcmpl-{self.answered}", "object": "chat.completion", "model": body["model"]}
        return orjson.dumps({**told, "choices": [choice], "usage": usage})

    def count(self) -> dict[str, Any]:
        more = {"work_s": self.work_s, "longest_s": self.longest_s, "most_in_flight": self.most_in_flight}
        return {**super().count(), **self.tokens, **more}

    def _said(self, body: Mapping[str, Any]) -> tuple[str, str]:
        asked = body["messages"][-1]["content"]
        lines = [line for line in asked.splitlines() if line.startswith('{"profile"')]
        profiles = [orjson.loads(line) for line in lines]
        breakage = self._breakage(lines)
        text = answer(profiles, breakage)
        if breakage == "garbled":
            text = text[: len(text) // 2]
        most = body.get("max_tokens") or body.get("max_completion_tokens")
        return (text[: 4 * most], "length") if most and estimate_tokens(text) > most else (text, "stop")

    def _breakage(self, lines: list[str]) -> Breakage | None:
        """The same for the same question asked as often."""
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        self._times_asked[digest] += 1
        chance = random.Random(f"{self.seed} {digest} {self._times_asked[digest]}")
        return chance.choice(KINDS) if chance.random() < self._broken else None

    def _usage(self, body: Mapping[str, Any], text: str) -> dict[str, Any]:
        system = str(body["messages"][0]["content"])
        schema = orjson.dumps(body.get("response_format", {})).decode()
        prompt = sum(estimate_tokens(str(message["content"])) for message in body["messages"]) + estimate_tokens(schema)
        known, kept = system in self._prefixes, estimate_tokens(system)
        self._prefixes.add(system)
        cached = kept // CACHED_STEP * CACHED_STEP if known and kept >= CACHED_FROM else 0
        written = estimate_tokens(text)
        self.tokens.update(input_tokens=prompt, output_tokens=written, cached_tokens=cached)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    async def _pass(self, tokens: int) -> None:
        if self._tokens_per_s is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + tokens / self._tokens_per_s
        await asyncio.sleep(self._free_at - now)


def answer(profiles: list[dict[str, Any]], breakage: Breakage | None) -> str:
    """The rate of the cases as the chance; `missing` leaves the last profile out, `forbidden` proposes to it what it
    may not have."""
    answers = [{"profile": one["profile"], "proposals": _proposals(one["cases"])} for one in profiles]
    if breakage == "missing":
        answers = answers[:-1]
    if breakage == "forbidden":
        answers[-1]["proposals"] = _proposals({"free_car": [1.0, 1]})
    return orjson.dumps({"answers": answers}).decode()


def _proposals(cases: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"treatment": name, "chance": rate[0], "reason": REASON} for name, rate in cases.items()]


async def _serve(stub: TreatmentsStub) -> None:
    async with stub:
        print(stub.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.support.treatments_stub", description=cast(str, __doc__))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--base-ms", type=float, default=0.0, help="of every answer")
    parser.add_argument("--token-ms", type=float, default=0.0, help="of every token that is written")
    parser.add_argument("--tokens-per-s", type=float, help="that all calls together may take")
    parser.add_argument("--broken", type=float, default=0.0, help="share of answers, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stub = TreatmentsStub(
        base_s=given.base_ms / 1000,
        token_s=given.token_ms / 1000,
        tokens_per_s=given.tokens_per_s,
        broken=given.broken,
        seed=given.seed,
        port=given.port,
    )
    uvloop.run(_serve(stub))


if __name__ == "__main__":
    main()
