"""The agents of a team at work: planner, members and joiner, each a typed run of its own with its own prompt."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from app.agent.loop import AgentResult, AgentSpec
from app.agent.providers import CHEAP, STRONG
from app.agent.tools import Effect, ToolOutcome
from app.pack import Kit
from app.packs.teams.evidence import EvidenceBook, failures, seen, told, unlinked
from app.packs.teams.joining import Done
from app.packs.teams.models import TaskState
from app.packs.teams.running import Help
from app.packs.teams.schemas import (
    MAX_ANSWER,
    MAX_NAMED,
    MAX_PART,
    Gap,
    JointAnswer,
    MemberAnswer,
    Plan,
    PlannedTask,
    ToolUse,
)
from app.packs.teams.team import PACK, MemberSpec, TeamSpec
from app.principal import Principal

ALSO: Final = "teams.also_tools"
"""The flag with further tools of members, such as `engineering:mcp_github_*`, separated by commas."""
_PLANNING_TOKENS: Final = 900
_JOINING_TOKENS: Final = 1_200
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Able:
    """A member with the tools that it has for this tenant; `absent` says of the others why it lacks them."""

    spec: MemberSpec
    tools: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def gaps(self) -> list[Gap]:
        return [Gap(what=f"What {self.spec.title} looks up", why=why, member=self.spec.name) for why in self.absent]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way. Tools and the audit log know it by its id: a subject may be a person's address."""

    principal: Principal
    team: TeamSpec
    question: str
    subject: str
    question_id: str


class AgentCrew:
    """The `Crew` of a question (see `running`): agents over the models and tools of the kit."""

    def __init__(self, kit: Kit, asked: Asked, able: Sequence[Able]) -> None:
        self._kit = kit
        self._asked = asked
        self._able: Mapping[str, Able] = {one.spec.name: one for one in able if one.tools}

    @property
    def members(self) -> Sequence[str]:
        return tuple(self._able)

    def stopped(self) -> bool:
        return self._kit.flags.killed(PACK, self._asked.principal.tenant_id)

    async def plan(self, work: Help) -> Plan:
        members = [{"member": name, "knows": one.spec.knows} for name, one in self._able.items()]
        known = [_told(one) for one in work.done]
        gaps = [gap.model_dump() for gap in work.gaps]
        values = {
            "team": self._asked.team.answers,
            "members": members,
            "most": str(work.most),
            "first": str(len(work.done) + 1),
            "known": known,
            "gaps": gaps,
        }
        facts = {"members": list(self._able), "known": known}
        spec = AgentSpec("teams_plan", Plan, (), STRONG, 2, work.share.caps, _PLANNING_TOKENS, PACK)
        result: AgentResult[Plan] = await self._run(spec, self._asked.team.planner, values, facts, work)
        return result.answer

    async def answer(self, task: PlannedTask, work: Help) -> Done:
        able, book = self._able[task.member], EvidenceBook()
        spec = AgentSpec(
            able.spec.prompt,
            MemberAnswer,
            able.tools,
            CHEAP,
            able.spec.max_steps,
            work.share.caps,
            able.spec.max_tokens,
            PACK,
        )
        before = [_told(one) for one in work.done]
        values = {"before": before, "part": task.question}
        facts = {"member": task.member, "before": before, "part": task.question}
        result: AgentResult[MemberAnswer] = await self._run(spec, able.spec.prompt, values, facts, work, tell=book.tell)
        known = [self._asked.question, task.question, *(one.answer for one in work.done)]
        return _done(task, result, book, known)

    async def join(self, work: Help) -> tuple[JointAnswer, str]:
        found = [_told(one) for one in work.done]
        values = {"team": self._asked.team.answers, "found": found}
        titles = {name: one.spec.title for name, one in self._able.items()}
        facts = {"found": found, "titles": titles}
        spec = AgentSpec("teams_join", JointAnswer, (), STRONG, 2, work.share.caps, _JOINING_TOKENS, PACK)
        result = await self._run(spec, self._asked.team.joiner, values, facts, work)
        return result.answer, result.model

    async def _run(
        self,
        spec: AgentSpec[Any],
        prompt: str,
        values: Mapping[str, Any],
        facts: Mapping[str, Any],
        work: Help,
        tell: Callable[[ToolOutcome], Any] | None = None,
    ) -> Any:
        asked = self._asked
        shared = {"question": asked.question, "subject": asked.subject or "none"}
        today = self._kit.ports.clock().date().isoformat()
        return await self._kit.agent.run(
            asked.principal,
            spec,
            self._kit.prompts.get(prompt),
            values={**shared, "today": today, **values},
            facts={**shared, "today": today, **facts},
            subject_id=asked.question_id,
            deadline_s=work.until - asyncio.get_running_loop().time(),
            tell=tell,
            tally=work.share.tally,
        )


def _told(one: Done) -> dict[str, Any]:
    """A task and its end, as the planner, other members and the joiner read it."""
    told: dict[str, Any] = {"number": one.task.number, "member": one.task.member, "question": one.task.question}
    if not one.answered:
        return told | {"problem": one.problem}
    evidence = [{"id": row.id, "title": row.title, "quote": row.quote} for row in one.evidence]
    return told | {"answer": one.answer, "evidence": evidence, "missing": list(one.missing)}


def _done(task: PlannedTask, result: AgentResult[MemberAnswer], book: EvidenceBook, known: Sequence[str]) -> Done:
    """A member's answer, held to what its tools gave; failed where it says nothing."""
    outcomes, model = result.tool_outcomes, result.model
    uses = tuple(_use(outcome) for outcome in outcomes)
    failed = failures(outcomes)
    if outcomes and len(failed) == len(outcomes):
        return Done(task, TaskState.FAILED, problem=f"No look-up succeeded. {failed[0].error}", tools=uses, model=model)
    text, missing = _cleaned(result.answer, [*known, *told(outcomes)])
    if not text:
        problem = " ".join(["The member found nothing.", *missing])
        return Done(task, TaskState.FAILED, problem=problem, tools=uses, model=model)
    evidence, unknown = book.checked(result.answer.evidence, task.number, task.member)
    notes = [
        f"{task.member} named evidence that none of its look-ups gave, '{one[:_SHOWN]}': removed." for one in unknown
    ]
    if not evidence:
        notes.append(f"The answer of {task.member} to sub-question {task.number} rests on no look-up.")
    gone = [f"{outcome.tool[:_SHOWN]}: {outcome.error}" for outcome in failed]
    return Done(
        task,
        TaskState.DONE,
        text,
        tuple(evidence),
        (*missing, *dict.fromkeys(gone)),
        notes=tuple(notes),
        tools=uses,
        model=model,
    )


def _cleaned(answer: MemberAnswer, sources: Sequence[str]) -> tuple[str, list[str]]:
    """The answer's text and its gaps, held to their bounds and to the links of the sources."""
    missing = [one[:MAX_PART] for one in answer.missing[:MAX_NAMED]]
    text, *gaps = unlinked([answer.answer.strip()[:MAX_ANSWER], *missing], sources)
    return text, gaps


def _use(outcome: ToolOutcome) -> ToolUse:
    return ToolUse(
        tool=outcome.tool[:_SHOWN],
        state=outcome.state.value,
        problem=outcome.error,
        seen=seen(outcome.result),
        duration_ms=round(outcome.duration_ms, 3),
    )


async def able_members(kit: Kit, principal: Principal, team: TeamSpec) -> list[Able]:
    """The team's members with what each may look up here."""
    modes = await kit.executor.policies.modes(principal.tenant_id)
    registry = kit.executor.registry
    also = also_tools(kit.flags.text(ALSO, principal.tenant_id), registry.names)
    return [_able(member, also.get(member.name, ()), kit, modes) for member in team.members]


def _able(member: MemberSpec, also: Sequence[str], kit: Kit, modes: Mapping[str, Any]) -> Able:
    tools, absent = [], []
    for name in dict.fromkeys((*member.tools, *also)):
        tool = kit.executor.registry.get(name)
        if tool is None:
            absent.append(f"The tool '{name}' is not installed here.")
        elif tool.effect is not Effect.READ:
            absent.append(f"The tool '{name}' changes things: a team only looks up.")
        elif name not in modes:
            absent.append(f"The tool '{name}' is not on the tenant's allow list.")
        else:
            tools.append(name)
    return Able(member, tuple(tools), tuple(absent))


def also_tools(text: str, names: Sequence[str]) -> dict[str, list[str]]:
    """`member:pattern, member:pattern` as the registry's names that each member gets; `*` stands for any letters."""
    found: dict[str, list[str]] = {}
    for part in text.split(","):
        member, colon, pattern = part.partition(":")
        if colon and pattern.strip():
            found.setdefault(member.strip(), []).extend(name for name in names if fnmatchcase(name, pattern.strip()))
    return found
