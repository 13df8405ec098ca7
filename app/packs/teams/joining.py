"""From the members' answers to one: what a joiner may say, and the answer that needs no model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.agent.steps import AgentFailed
from app.packs.teams.evidence import unlinked
from app.packs.teams.models import TaskState
from app.packs.teams.schemas import MAX_ANSWER, MAX_NAMED, MAX_PART, Evidence, Gap, JointAnswer, PlannedTask, ToolUse

_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Done:
    """A task and what came of it: exactly one of these for each task of a plan.

    `down`: it failed because no model answers.
    """

    task: PlannedTask
    state: TaskState
    answer: str = ""
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    model: str = ""
    tokens: int = 0
    cost_micros: int = 0
    duration_ms: float = 0.0
    down: bool = False

    @property
    def answered(self) -> bool:
        return self.state is TaskState.DONE


@dataclass(frozen=True, slots=True)
class Joined:
    """One answer of all that was found by round `depth`. `asks_more`: the joiner says that something is missing."""

    text: str
    depth: int
    evidence: tuple[Evidence, ...]
    missing: tuple[Gap, ...]
    notes: tuple[str, ...]
    by: str
    model: str = ""
    asks_more: bool = False


def checked(answer: JointAnswer, done: Sequence[Done], question: str, model: str) -> Joined:
    """A model's answer, held to the evidence and the links that the members have.

    Raises AgentFailed where it says nothing.
    """
    gaps = [text[:MAX_PART] for gap in answer.missing[:MAX_NAMED] for text in (gap.what, gap.why)]
    written = [answer.answer.strip()[:MAX_ANSWER], *gaps]
    text, *gaps = unlinked(written, [question, *(one.answer for one in done)])
    if not text:
        raise AgentFailed("The joiner's answer is empty.")
    known = {evidence.id: evidence for one in done for evidence in one.evidence}
    wanted = list(dict.fromkeys(answer.evidence))
    unknown = [evidence_id for evidence_id in wanted if evidence_id not in known]
    notes = [f"The joiner named evidence that nobody found, '{one[:_SHOWN]}': removed." for one in unknown[:MAX_NAMED]]
    told = [Gap(what=what, why=why) for what, why in zip(gaps[::2], gaps[1::2], strict=True)]
    return Joined(
        text=text,
        depth=max(one.task.depth for one in done),
        evidence=tuple(known[evidence_id] for evidence_id in wanted if evidence_id in known),
        missing=(*told, *unanswered(done)),
        notes=tuple(notes),
        by="model",
        model=model,
        asks_more=bool(told),
    )


def side_by_side(done: Sequence[Done], before: Joined | None, why: str) -> Joined:
    """The members' answers one after the other, behind the joined answer of an earlier round where there is one."""
    answered = [one for one in done if one.answered]
    lines, joined = ([], 0) if before is None else ([before.text], before.depth)
    lines += [f"{one.task.member}: {one.answer} [{one.task.number}]" for one in answered if one.task.depth > joined]
    told = tuple(
        Gap(what=what, why="The member could not find it out.", member=one.task.member)
        for one in answered
        for what in one.missing
    )
    return Joined(
        text="\n".join(lines) or "Nothing could be found out.",
        depth=max((one.task.depth for one in done), default=0),
        evidence=tuple(evidence for one in answered for evidence in one.evidence),
        missing=(*told, *unanswered(done)),
        notes=(f"The members' answers stand side by side: {why}",),
        by="rule",
    )


def unanswered(done: Sequence[Done]) -> list[Gap]:
    """Sub-questions without an answer, but where the same member answered in a later round."""
    later = {one.task.member: one.task.depth for one in done if one.answered}
    return [
        Gap(what=one.task.question, why=one.problem, member=one.task.member)
        for one in done
        if not one.answered and later.get(one.task.member, 0) <= one.task.depth
    ]


def with_notes(joined: Joined, notes: Sequence[str], gaps: Sequence[Gap]) -> Joined:
    """Further notes and gaps, each said once."""
    return replace(
        joined,
        notes=tuple(dict.fromkeys((*notes, *joined.notes))),
        missing=(*joined.missing, *(gap for gap in gaps if gap not in joined.missing)),
    )
