"""What a question costs as tenants, documents and conversations grow: CPU of each part, tokens, money, memory.

All levels of all axes are in one run: every round asks each level the same number of new questions, the levels take
turns, and a figure is the median of the rounds. A level stands beside the smallest of its axis, the baseline, so that
what else the machine does meets both. CPU is that of processes, not of the clock.
"""

import asyncio
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from loadtest.capacity.fit import Growth, fit
from loadtest.capacity.stage import BOT, Stage, large_bot
from tests.chaos.load import Client, Try, session

TENANTS: Final = (1, 10, 100, 1_000)
DOCUMENTS: Final = (100, 1_000, 10_000)
TURNS: Final = (1, 10, 50, 200)
ROUNDS: Final = 5
ASKED: Final = 20
"""Questions to each level of tenants and documents in each round."""
CONVERSATIONS: Final = 5
"""Of each length, asked once in each round: one more question makes a conversation longer."""
_IN_TURN: Final = (ROUNDS + 1) * ASKED
_SHORT: Final = 10
"""Turns of a conversation that is quickly said again."""
_CLIENTS: Final = 4
_SETTLED_S: Final = 0.5
"""What follows an answer, such as a summary of the conversation, is done by then."""
QUESTION: Final = "How many days of paid leave does everybody have?"


class Axis(StrEnum):
    TENANTS = "tenants"
    DOCUMENTS = "documents"
    TURNS = "turns said before"


UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "api CPU": "ms",
        "postgres CPU": "ms",
        "vectors CPU": "ms",
        "input tokens": "tokens",
        "output tokens": "tokens",
        "model cost": "micro-USD",
        "memory": "MiB",
    }
)
"""Figures of one question, but for memory: of the API process once the level was asked."""
SINGULAR: Final[Mapping[Axis, str]] = MappingProxyType(
    {Axis.TENANTS: "tenant", Axis.DOCUMENTS: "document", Axis.TURNS: "turn"}
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: whose key, which bot."""

    key: str
    bot: str = BOT


@dataclass(frozen=True, slots=True)
class Level:
    """One amount of one axis. `asks(round)`: whom that round's questions go to; `before`: turns said before each."""

    axis: Axis
    amount: int
    asks: Callable[[int], Sequence[Ask]]
    before: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A figure at each amount of an axis, the median of rounds, and how it grows."""

    axis: Axis
    figure: str
    values: Mapping[float, float]
    growth: Growth

    @property
    def named(self) -> str:
        return f"{self.figure}, {UNITS[self.figure]}" if UNITS[self.figure] not in self.figure else self.figure

    @property
    def told(self) -> str:
        return self.growth.told(UNITS[self.figure], SINGULAR[self.axis])


def levels(keys: Sequence[str], most: float = math.inf) -> tuple[Level, ...]:
    """Of every axis, amounts above `most` left out.

    Conversations are of tenants of their own, the last ones that have a page: a key is a user.
    """
    tenants = [Level(Axis.TENANTS, number, _in_turn(keys[:number])) for number in up_to(most, TENANTS)]
    documents = [Level(Axis.DOCUMENTS, n, _in_turn(keys[:1], large_bot(n))) for n in up_to(most, DOCUMENTS)]
    talking = iter(keys[_IN_TURN : with_page()])
    turns = [
        Level(Axis.TURNS, said, _once(list(itertools.islice(talking, CONVERSATIONS))), said)
        for said in up_to(most, TURNS)
    ]
    return (*tenants, *documents, *turns)


def up_to(most: float, amounts: Sequence[int]) -> Sequence[int]:
    return [amount for amount in amounts if amount <= most]


def with_page() -> int:
    """How many tenants are asked: those of all rounds, then those who have conversations."""
    return _IN_TURN + len(TURNS) * CONVERSATIONS


def _in_turn(keys: Sequence[str], bot: str = BOT) -> Callable[[int], Sequence[Ask]]:
    def asks(number: int) -> Sequence[Ask]:
        return [Ask(keys[(number * ASKED + place) % len(keys)], bot) for place in range(ASKED)]

    return asks


def _once(keys: Sequence[str]) -> Callable[[int], Sequence[Ask]]:
    return lambda _number: [Ask(key) for key in keys]


@dataclass
class Asker:
    """Asks a stage, and reads what it took."""

    stage: Stage
    web: aiohttp.ClientSession
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def measure(self, level: Level, number: int) -> Mapping[str, float]:
        """Figures of one question in one round of a level. Raises RuntimeError where one was not answered."""
        asks = level.asks(number)
        if level.before:
            await self._said(dict.fromkeys(asks), level.before, first=not number)
        await asyncio.sleep(_SETTLED_S)
        tokens, cpu = await self._tokens(), self.stage.cpu_s()
        # What was said before is remembered; all other questions come with an empty history.
        await self._ask(asks, {} if level.before else {"history": []})
        await asyncio.sleep(_SETTLED_S)
        spent = {f"{part} CPU": (now - cpu[part]) * 1e3 for part, now in self.stage.cpu_s().items()}
        spent |= {name: now - tokens[name] for name, now in (await self._tokens()).items()}
        if not spent["input tokens"]:
            raise RuntimeError(f"No model was asked by {level.amount:,} {level.axis}: its cost would be no question's.")
        return {name: value / len(asks) for name, value in spent.items()} | {"memory": self.stage.memory_mib()}

    async def _said(self, whose: Iterable[Ask], turns: int, *, first: bool) -> None:
        """Conversations of so many turns: short ones anew each round, long ones go on."""
        anew = turns <= _SHORT
        if anew:
            for each in whose:
                _raised(await Client(self.web, self.stage.address, each.key).delete(f"/v1/bots/{each.bot}/memory"))
        if anew or first:
            for _ in range(turns):
                await self._ask(list(whose), {})

    async def _ask(self, asks: Sequence[Ask], more: Mapping[str, Any]) -> None:
        waiting = iter(asks)

        async def one_after_the_other() -> None:
            for each in waiting:
                body = {"message": f"{QUESTION} My number is {next(self.numbers)}.", **more}
                client = Client(self.web, self.stage.address, each.key)
                _raised(await client.post(f"/v1/bots/{each.bot}/chat", body))

        await asyncio.gather(*(one_after_the_other() for _ in range(_CLIENTS)))

    async def _tokens(self) -> Mapping[str, float]:
        client = Client(self.web, self.stage.address, self.stage.keys[0])
        return read_tokens(await client.text("/metrics"))


def read_tokens(exposition: str) -> Mapping[str, float]:
    """Tokens and micro-USD of all model calls so far."""
    found = dict.fromkeys(("input tokens", "output tokens", "model cost"), 0.0)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "trellis_model_tokens_total" and sample.labels["direction"] in ("input", "output"):
                found[f"{sample.labels['direction']} tokens"] += sample.value
            elif sample.name == "trellis_model_cost_usd_total":
                found["model cost"] += sample.value * 1e6
    return found


def _raised(found: Try) -> None:
    if not found.ok:
        raise RuntimeError(f"The app does not answer what its growth is measured by: {found.status} {found.code}.")


async def measured(stage: Stage, most: float, say: Callable[[str], None]) -> tuple[Row, ...]:
    """Every level in every round; the first round warms up and is left out."""
    every, seen = levels(stage.keys, most), dict[tuple[Axis, int], list[Mapping[str, float]]]()
    async with session() as web:
        asker = Asker(stage, web)
        for number in range(ROUNDS + 1):
            say("warming up" if not number else f"round {number} of {ROUNDS}")
            for level in every:
                figures = await asker.measure(level, number)
                if number:
                    seen.setdefault((level.axis, level.amount), []).append(figures)
    return rows(seen)


def rows(seen: Mapping[tuple[Axis, int], Sequence[Mapping[str, float]]]) -> tuple[Row, ...]:
    """A row for each figure of each axis, from the rounds of each of its amounts."""
    return tuple(
        _row(
            axis,
            figure,
            {amount: [each[figure] for each in rounds] for (of, amount), rounds in seen.items() if of is axis},
        )
        for axis in Axis
        for figure in UNITS
    )


def _row(axis: Axis, figure: str, rounds: Mapping[int, Sequence[float]]) -> Row:
    values: dict[float, float] = {amount: statistics.median(each) for amount, each in rounds.items()}
    return Row(axis, figure, values, fit(values, _noise(list(rounds.values()))))


def _noise(rounds: Sequence[Sequence[float]]) -> float:
    """The largest standard error of a median, relative to it, from the rounds' median absolute deviation."""
    return max(_error(of) for of in rounds)


def _error(of: Sequence[float]) -> float:
    middle = statistics.median(of)
    deviation = statistics.median([abs(each - middle) for each in of])
    # 1.4826: of a normal's standard deviation to its MAD; 1.2533: of a median's standard error to a mean's.
    return 1.2533 * 1.4826 * deviation / math.sqrt(len(of)) / abs(middle or 1.0)
