"""What proposals for many customers cost: one call a customer, the same at once, and the recommendation agent.

All three ask the same stub of a model in a process of its own, under one limit on tokens a second and at most CALLS
calls at a time (one by one: one). They use the service's own router, prompt and prices, on the last rows of a bank's
campaigns with what came of the earlier ones as cases. The stub writes at the pace of a hosted model (400 ms and 4 ms a
token, 200,000 tokens a minute), with time made SPEED times shorter; a share of its answers is broken. The two plain
ways show the model the exact rates of similar cases, and ask once more where an answer is broken.

Decision quality: a tenth of the customers, those whose call is worth most, are called; what counts is how many of them
really took the deposit, and what these were worth. That is the best allocation under the one limit that it has.

The lower bound of a way is max(tokens / limit, model seconds / CALLS, the longest call): what its own calls would take
if nothing else cost time.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvloop
from sqlalchemy import insert

from app.agent.budgets import Tally
from app.ids import new_id
from app.packs.treatments.bank import TREATMENT, BankCustomer, bank_catalogue, bank_customers
from app.packs.treatments.batching import SPEC, expected_tokens
from app.packs.treatments.cases import NOTHING, Cases
from app.packs.treatments.fingerprint import fingerprint_of, vector_of
from app.packs.treatments.histories import CustomerSeen, HistoryBuilder, Treated, Window
from app.packs.treatments.journey_stage import journey_of
from app.packs.treatments.models import Case, Catalogue
from app.packs.treatments.profiles import PlainWords, Profile
from app.packs.treatments.proposing import ModelProposal, read_answers
from app.packs.treatments.rates import Look
from app.packs.treatments.recommendation import PROMPT, RecommendationStage, described, value_micros
from app.packs.treatments.stages import EventSeen, Journey, RecommendationAsked
from app.principal import worker
from app.storage.base import MICROS
from loadtest.stub.server import KEY
from tests.perf.figures import record
from tests.support.service import TENANT, Service, running

DATA = Path(os.environ.get("TRELLIS_DATA", "../shared/data")) / "bank_contacts.csv"
CUSTOMERS = 1_000
CALLS = 8
CHUNK, CHUNKS_AT_ONCE = 100, 4
SPEED = 40
BASE_MS, TOKEN_MS, TOKENS_PER_S = 400 / SPEED, 4 / SPEED, 200_000 / 60 * SPEED
BROKEN = 0.02
CALLED = 0.1
PRICES = {
    "model_input_usd_per_million": 0.15,
    "model_output_usd_per_million": 0.60,
    "model_cached_input_usd_per_million": 0.075,
}
LEAST_FASTER, LEAST_CHEAPER = 5.0, 0.4
pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"needs {DATA.name} in ../shared/data or TRELLIS_DATA")


@dataclass(frozen=True)
class Judged:
    """A customer with what they really did."""

    journey: Journey
    success: bool
    worth_usd: float


@dataclass(frozen=True)
class Bank:
    """`cases` by fingerprint: vector, trials, successes; learned from all but the judged."""

    cases: Mapping[str, tuple[list[float], int, int]]
    judged: Sequence[Judged]


@pytest.fixture(scope="module")
def bank() -> Bank:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    vectors: dict[str, list[float]] = {}
    judged: list[Judged] = []
    for one in bank_customers(DATA):
        journey = _journey(one)
        if one.judged:
            judged.append(Judged(journey, one.outcome.success, one.customer.worth_usd))
            continue
        print_of = fingerprint_of(journey.traits)
        counts[print_of][0] += 1
        counts[print_of][1] += one.outcome.success
        vectors[print_of] = vector_of(journey.traits)
    return Bank({name: (vectors[name], *count) for name, count in counts.items()}, judged)


def _journey(one: BankCustomer) -> Journey:
    """As it was when the bank called."""
    customer, at = one.customer, one.outcome.at
    catalogue = bank_catalogue()
    builder = HistoryBuilder(Window(at, catalogue.window_days))
    for event in sorted(customer.events, key=lambda event: event.at):
        builder.add(EventSeen(event.at, event.kind, event.channel, None, ""))
    worth = round(customer.worth_usd * MICROS)
    name, group = customer.external_id, customer.fair_group
    seen = CustomerSeen(name, name, customer.segment, group, worth, customer.attributes)
    return journey_of(builder.history(seen, Treated()), catalogue, 1, at)


@contextmanager
def stub() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.treatments_stub", "--broken", str(BROKEN)]
    command += ["--base-ms", str(BASE_MS), "--token-ms", str(TOKEN_MS), "--tokens-per-s", str(TOKENS_PER_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        yield made


async def opened(stack: AsyncExitStack, home: Path, bank: Bank, **settings: Any) -> Service:
    """A service whose tenant has the catalogue and the cases."""
    made = running(home, knowledge=False, worker=False, tenant_daily_tokens=10**9, tenant_daily_usd=1e6, **settings)
    service = await stack.enter_async_context(made)
    now = service.container.clock()
    about = {"tenant_id": TENANT, "created_at": now}
    content = bank_catalogue().model_dump(mode="json")
    cases = [
        {**about, "id": new_id("case"), "fingerprint": name, "treatment": TREATMENT, "vector": vector}
        | {"trials": trials, "successes": successes, "updated_at": now}
        for name, (vector, trials, successes) in bank.cases.items()
    ]
    async with service.container.db.operator_transaction() as session:
        version = {**about, "id": new_id("catalogue"), "version": 1, "content": content, "created_by": "bench"}
        await session.execute(insert(Catalogue), [version])
        await session.execute(insert(Case), cases)
    return service


@dataclass
class Way:
    """One way to ask, measured. `worth` is what a call brings net, in micro-USD, by customer id."""

    name: str
    wall_s: float
    worth: dict[str, int]
    stub: dict[str, float]
    cost_micros: int

    @property
    def bound_s(self) -> float:
        tokens = self.stub["input_tokens"] + self.stub["output_tokens"]
        return max(tokens / TOKENS_PER_S, self.stub["work_s"] / CALLS, self.stub["longest_s"])

    def report(self, judged: Sequence[Judged]) -> dict[str, float]:
        called = best(self.worth, judged)
        return {
            "customers": len(judged),
            "customers_per_s": len(judged) / self.wall_s,
            "model_calls": self.stub["calls"],
            "tokens_in": self.stub["input_tokens"],
            "tokens_out": self.stub["output_tokens"],
            "tokens_cached": self.stub["cached_tokens"],
            "usd": self.cost_micros / MICROS,
            "most_calls_at_once": self.stub["most_in_flight"],
            "called": len(called),
            "deposits": sum(one.success for one in called),
            "deposits_worth_usd": sum(one.worth_usd for one in called if one.success),
            "times_lower_bound": self.wall_s / self.bound_s,
        }


def best(worth: Mapping[str, int], judged: Sequence[Judged]) -> list[Judged]:
    """The tenth for whom a call is worth most; among equals who comes first."""
    ranked = sorted(judged, key=lambda one: -worth.get(one.journey.customer_id, 0))
    return ranked[: round(len(judged) * CALLED)]


class Plain:
    """One call a customer, as one would write it first."""

    def __init__(self, service: Service, tally: Tally) -> None:
        self._kit = service.container.kit
        self._cases = Cases(service.container.db)
        self._words = PlainWords()
        self._tally = tally
        self._catalogue = bank_catalogue()

    async def worth_of_call(self, journey: Journey) -> int:
        profile = await self._profile(journey)
        for _ in range(2):
            proposals = await self._asked(profile)
            for made in proposals or ():
                if made.treatment == TREATMENT:
                    treatment = self._catalogue.treatment(TREATMENT)
                    value = value_micros(journey, treatment, made.chance, profile.without.chance)
                    return value - treatment.cost_micros
            if proposals is not None:
                break
        return 0

    async def _profile(self, journey: Journey) -> Profile:
        bases = {one.name: one.base_chance for one in self._catalogue.treatments}
        look = Look(journey.fingerprint, journey.vector)
        rates = (await self._cases.near(TENANT, [look], bases | {NOTHING: 0.0}))[journey.fingerprint]
        return Profile(
            self._words.traits(journey.traits), {name: rates[name] for name in journey.allowed}, rates[NOTHING]
        )

    async def _asked(self, profile: Profile) -> list[ModelProposal] | None:
        line = orjson.dumps({"profile": 1, **profile.shown()}).decode()
        routed = await self._kit.agent.once(
            worker(TENANT),
            replace(SPEC, max_tokens=2 * expected_tokens([profile])),
            self._kit.prompts.get(PROMPT),
            values={"catalogue": described(self._catalogue), "profiles": line},
            facts={},
            subject_id="bench",
            deadline_s=60,
            tally=self._tally,
        )
        good, _ = read_answers(routed.reply.text, [profile], cut_off=routed.reply.finish_reason == "length")
        return good.get(0)


async def one_by_one(service: Service, journeys: Sequence[Journey]) -> tuple[dict[str, int], int]:
    tally = Tally()
    plain = Plain(service, tally)
    return {one.customer_id: await plain.worth_of_call(one) for one in journeys}, tally.cost_micros


async def gathered(service: Service, journeys: Sequence[Journey]) -> tuple[dict[str, int], int]:
    tally = Tally()
    plain, slots = Plain(service, tally), asyncio.Semaphore(CALLS)

    async def bounded(journey: Journey) -> int:
        async with slots:
            return await plain.worth_of_call(journey)

    worth = await asyncio.gather(*map(bounded, journeys))
    return {one.customer_id: value for one, value in zip(journeys, worth, strict=True)}, tally.cost_micros


async def ours(service: Service, journeys: Sequence[Journey]) -> tuple[dict[str, int], int]:
    stage, slots = RecommendationStage(service.container.kit), asyncio.Semaphore(CHUNKS_AT_ONCE)

    async def chunk(some: Sequence[Journey]) -> tuple[dict[str, int], int]:
        async with slots:
            answered = await stage.handle(RecommendationAsked(TENANT, "bench", 1, list(some)))
        worth = {
            one.customer_id: made.net_micros
            for one in answered.recommended
            for made in one.proposals
            if made.treatment == TREATMENT
        }
        return worth, answered.spent.cost_micros

    chunks = [journeys[start : start + CHUNK] for start in range(0, len(journeys), CHUNK)]
    done = await asyncio.gather(*map(chunk, chunks))
    return {name: net for worth, _ in done for name, net in worth.items()}, sum(cost for _, cost in done)


Ask = Callable[[Service, Sequence[Journey]], Awaitable[tuple[dict[str, int], int]]]


async def measured(name: str, ask: Ask, service: Service, url: str, judged: Sequence[Judged]) -> Way:
    before = await counted(url)
    started = time.perf_counter()
    worth, cost = await ask(service, [one.journey for one in judged])
    wall = time.perf_counter() - started
    after = await counted(url)
    own = {figure: after[figure] - before.get(figure, 0) for figure in after}
    return Way(
        name, wall, worth, own | {"longest_s": after["longest_s"], "most_in_flight": after["most_in_flight"]}, cost
    )


async def counted(url: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(url.removesuffix("/v1") + "/count") as answer:
        return orjson.loads(await answer.read())


def test_treatments_ways(benchmark: Any, runner: asyncio.Runner, tmp_path: Path, bank: Bank) -> None:
    judged = bank.judged[:: len(bank.judged) // CUSTOMERS][:CUSTOMERS]
    ways: list[Way] = []
    stack = AsyncExitStack()
    with stub() as url:
        model = {"model_url": url, "model_name": "m", "model_key": KEY, "treatments_calls": CALLS, **PRICES}
        service = runner.run(opened(stack, tmp_path, bank, **model))

        async def all_ways() -> None:
            for name, ask in (("one_by_one", one_by_one), ("gathered", gathered), ("ours", ours)):
                ways.append(await measured(name, ask, service, url, judged))

        benchmark.pedantic(lambda: runner.run(all_ways()), rounds=1)
        runner.run(stack.aclose())
    reports = {way.name: way.report(judged) for way in ways}
    for name, report in reports.items():
        record(f"treatments_{name}", **report)
    plain, mine = reports["one_by_one"], reports["ours"]
    faster = mine["customers_per_s"] / plain["customers_per_s"]
    cheaper = 1 - mine["usd"] / plain["usd"]
    record(
        "treatments_ours_against_one_by_one",
        times_faster=faster,
        cheaper_share=cheaper,
        times_faster_than_gathered=mine["customers_per_s"] / reports["gathered"]["customers_per_s"],
        deposits_more=mine["deposits"] - plain["deposits"],
        targets="met" if faster >= LEAST_FASTER and cheaper >= LEAST_CHEAPER else "missed",
    )
    assert cheaper >= LEAST_CHEAPER


def test_treatments_quality_offline(benchmark: Any, runner: asyncio.Runner, tmp_path: Path, bank: Bank) -> None:
    """All judged customers by the embedded default: how many of those called took the deposit."""
    stack = AsyncExitStack()
    service = runner.run(opened(stack, tmp_path, bank))
    journeys = [one.journey for one in bank.judged]
    found: list[tuple[dict[str, int], float]] = []

    async def all_of_them() -> None:
        started = time.perf_counter()
        worth, _ = await ours(service, journeys)
        found.append((worth, time.perf_counter() - started))

    benchmark.pedantic(lambda: runner.run(all_of_them()), rounds=1)
    runner.run(stack.aclose())
    worth, wall = found[0]
    everybody = sum(one.success for one in bank.judged) / len(bank.judged)
    called = best(worth, bank.judged)
    rate = sum(one.success for one in called) / len(called)
    record(
        "treatments_quality_offline",
        learned_from=sum(trials for _, trials, _ in bank.cases.values()),
        customers=len(journeys),
        customers_per_s=len(journeys) / wall,
        called=len(called),
        deposit_rate_called=rate,
        deposit_rate_everybody=everybody,
        times_better=rate / everybody,
    )
    assert rate > 1.5 * everybody
