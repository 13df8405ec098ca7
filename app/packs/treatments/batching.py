"""Many profiles in one model call; what does not come back whole is asked again in halves, down to alone."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from app.agent.answers import RoutedReply
from app.agent.budgets import Tally
from app.agent.loop import Agent
from app.agent.model import ModelError, ModelTimeout, estimate_tokens
from app.agent.once import OnceSpec
from app.agent.prompts import Prompt
from app.agent.routing import DeadlineExceeded, ModelUnavailable
from app.errors import TrellisError
from app.packs.treatments.pace import Pace
from app.packs.treatments.profiles import Profile
from app.packs.treatments.proposing import BatchAnswer, ModelProposal, read_answers
from app.principal import Principal
from app.telemetry.metrics import Metrics

ROUTE: Final = "cheap"
SPEC: Final = OnceSpec("treatments", ROUTE, BatchAnswer.model_json_schema())
TOKENS_A_PROPOSAL, TOKENS_A_PROFILE, TOKENS_AROUND = 32, 16, 16
"""What an answer is expected to take; a call may take twice that before it is cut off."""
TOKENS_A_SECOND: Final = 80
"""How fast a model is taken to write, until it proves slower."""
LEAST_TRIES: Final = 2
_CUT_OFF: Final = "length"
_REFUSED: Final = frozenset({400, 413, 422})
_SLOW_REASON: Final = "the model took too long"
_REFUSED_REASON: Final = "the model's provider refused to answer about it"


@dataclass(frozen=True, slots=True)
class Limits:
    """`profiles` in a call at most; `calls` in flight in this process, all chunks together; seconds that a call may
    take, with retries; `answer_tokens` that a model can write within one call's time."""

    profiles: int
    calls: int
    deadline_s: float
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one call: proposals by key, and who gave them."""

    proposals: Mapping[str, Sequence[ModelProposal]]
    model: str
    provider: str
    split: bool


@dataclass(slots=True)
class Question:
    """What a chunk asks: profiles by key, under one prompt. `keep` stores the answers of a call as soon as they are
    there: what is paid for is never asked again. `tally`, `calls` and `failed` (why, by key) fill up on the way;
    `error` is the first that stops it all.
    """

    principal: Principal
    run_id: str
    prompt: Prompt
    catalogue: str
    profiles: Mapping[str, Profile]
    keep: Callable[[Answers], Awaitable[None]]
    tally: Tally = field(default_factory=Tally)
    calls: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    error: TrellisError | None = None


class Batcher:
    """Asks the model in the way of the house: budgets, breakers, spans and prices are the router's.

    A provider may refuse a request for what is in it. That counts against a profile only once this process has had
    an answer: before, it is the provider that is set up wrongly. A call that takes too long is split too, and from
    then on calls are asked for half as much; one profile alone that takes too long is an error.
    """

    def __init__(self, agent: Agent, metrics: Metrics, limits: Limits, pace: Pace) -> None:
        self._agent = agent
        self._metrics = metrics
        self._limits = limits
        self._pace = pace
        self._slots = asyncio.Semaphore(limits.calls)
        self._works = False
        self._answer_tokens = limits.answer_tokens

    async def ask(self, question: Question) -> None:
        """Asks about every profile: each is kept or has failed at the end.

        Raises BudgetExceeded, DeadlineExceeded or ModelUnavailable: no further call begins then, and what the calls
        under way answer is kept.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for keys in batches(question.profiles, self._limits.profiles, self._answer_tokens):
                    tasks.create_task(self._batch(question, keys, tries=1))
        except BaseExceptionGroup as group:
            raise _first(group) from group
        if question.error is not None:
            raise question.error

    async def _batch(self, question: Question, keys: Sequence[str], *, tries: int) -> None:
        try:
            bad = await self._answered(question, keys, tries)
        except TrellisError as error:
            question.error = question.error or error
            return
        if len(keys) == 1 and tries >= LEAST_TRIES:
            question.failed.update(bad)
            return
        async with asyncio.TaskGroup() as tasks:
            for part in halves(list(bad)):
                tasks.create_task(self._batch(question, part, tries=tries + 1))

    async def _answered(self, question: Question, keys: Sequence[str], tries: int) -> dict[str, str]:
        """Asks once and keeps what is good; why not, by key, for the others."""
        profiles = [question.profiles[key] for key in keys]
        async with self._slots:
            if question.error is not None:
                return {}
            try:
                routed = await self._call(question, profiles)
            except (ModelUnavailable, DeadlineExceeded) as error:
                return dict.fromkeys(keys, self._reason(error, profiles))
        self._works = True
        self._metrics.treatments_model_batch_size.observe(len(keys))
        good, bad = read_answers(routed.reply.text, profiles, cut_off=routed.reply.finish_reason == _CUT_OFF)
        if good:
            proposals = {keys[place]: proposed for place, proposed in good.items()}
            await question.keep(Answers(proposals, routed.reply.model, routed.provider, split=tries > 1))
        return {keys[place]: problem for place, problem in bad.items()}

    def _reason(self, error: ModelUnavailable | DeadlineExceeded, profiles: Sequence[Profile]) -> str:
        """Why the profiles are to be asked about again, in smaller parts. Raises the error where that is no use."""
        if len(profiles) > 1 and _slow(error):
            self._answer_tokens = min(self._answer_tokens, expected_tokens(profiles) // 2)
            return _SLOW_REASON
        if self._works and _refused(error):
            return _REFUSED_REASON
        raise error

    async def _call(self, question: Question, profiles: Sequence[Profile]) -> RoutedReply:
        numbered = [{"profile": number, **profile.shown()} for number, profile in enumerate(profiles, 1)]
        lines = "\n".join(orjson.dumps(one).decode() for one in numbered)
        answer = expected_tokens(profiles)
        spec = replace(SPEC, max_tokens=2 * answer)
        expected = estimate_tokens(question.prompt.system + question.catalogue + lines) + answer
        await self._pace.take(expected)
        question.calls += 1
        own = Tally()
        try:
            return await self._agent.once(
                question.principal,
                spec,
                question.prompt,
                values={"catalogue": question.catalogue, "profiles": lines},
                facts={"profiles": numbered},
                subject_id=question.run_id,
                deadline_s=self._limits.deadline_s,
                tally=own,
            )
        finally:
            question.tally.tokens += own.tokens
            question.tally.cost_micros += own.cost_micros
            self._pace.correct(own.tokens - expected)


def batches(profiles: Mapping[str, Profile], most: int, most_tokens: int) -> list[list[str]]:
    """The keys in their order, as many together as `most` and the length of an answer allow; one at least."""
    made: list[list[str]] = []
    tokens = 0
    for key, profile in profiles.items():
        own = _tokens(profile)
        if not made or len(made[-1]) >= most or tokens + own > most_tokens:
            made.append([])
            tokens = TOKENS_AROUND
        made[-1].append(key)
        tokens += own
    return made


def halves(keys: Sequence[str]) -> list[Sequence[str]]:
    """Two parts as equal as can be; one where there is one key, none where there is none."""
    middle = (len(keys) + 1) // 2
    return [part for part in (keys[:middle], keys[middle:]) if part]


def expected_tokens(profiles: Sequence[Profile]) -> int:
    """Of an answer about all of them."""
    return TOKENS_AROUND + sum(map(_tokens, profiles))


def _tokens(profile: Profile) -> int:
    return TOKENS_A_PROFILE + TOKENS_A_PROPOSAL * len(profile.options)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of what went wrong, out of its groups."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _slow(error: TrellisError) -> bool:
    return isinstance(error, DeadlineExceeded) or isinstance(error.__cause__, ModelTimeout)


def _refused(error: TrellisError) -> bool:
    """Whether the provider will not answer this request, whoever asks and whenever."""
    cause = error.__cause__
    return isinstance(cause, ModelError) and not cause.retryable and cause.upstream_status in _REFUSED
