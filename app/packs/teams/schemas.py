"""What a team is asked and what it answers, over the API and in its rows; and what its models answer with."""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from app.packs.teams.limits import LimitsIn, LimitsOut
from app.packs.teams.models import QuestionState, TaskState

MAX_QUESTION: Final = 4_000
MAX_PART: Final = 2_000
MAX_ANSWER: Final = 12_000
MAX_NAMED: Final = 50
"""Pieces of evidence, or gaps, of one answer."""


class PlanTask(BaseModel):
    """A sub-question as the planner writes it; `after` are numbers of others, counted from 1 in their order."""

    model_config = ConfigDict(extra="ignore")

    member: str
    question: str
    after: list[int] = Field(default_factory=list)


class Plan(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tasks: list[PlanTask]


class MemberAnswer(BaseModel):
    """`evidence` are sources, or ids inside their results; `missing` is what the member could not find out.

    Bounds are held after it was read: providers take no bounds in a schema.
    """

    model_config = ConfigDict(extra="forbid")

    answer: str
    evidence: list[str]
    missing: list[str]


class JointGap(BaseModel):
    model_config = ConfigDict(extra="forbid")

    what: str
    why: str


class JointAnswer(BaseModel):
    """`evidence` are ids as the members' answers carry them."""

    model_config = ConfigDict(extra="forbid")

    answer: str
    evidence: list[str]
    missing: list[JointGap]


class Gap(BaseModel):
    """What could not be found out, and why. `member` is whose part it was, empty where it was nobody's."""

    what: str
    why: str
    member: str = ""


class Evidence(BaseModel):
    """Something that a tool gave back and an answer rests on.

    `id` is unique within the answer: the task's number, then the source or an id in its result. `quote` is its words.
    """

    id: str
    task: int
    member: str
    tool: str
    title: str
    quote: str


class ToolUse(BaseModel):
    """A member's call of a tool. `problem` is one sentence, empty where the call was done.

    `seen` are the ids and addresses of what it gave back: by them a person is found in what was asked.
    """

    tool: str
    state: str
    problem: str
    seen: list[str]
    duration_ms: float


class PlannedTask(BaseModel):
    """A sub-question as it is put to a member; numbers count through all rounds, `depth` is the round."""

    number: int
    depth: int
    member: str
    question: str
    after: list[int]


class TaskOut(PlannedTask):
    """A sub-question and what came of it. `problem` says why there is no answer."""

    state: TaskState
    answer: str
    evidence: list[Evidence]
    missing: list[str]
    problem: str
    tools: list[ToolUse]
    model: str
    tokens: int
    cost_usd: float
    duration_ms: float


class TeamAnswer(BaseModel):
    """One answer of the whole team. In its text `[2]` names the sub-question that a sentence rests on.

    `planned_by` and `joined_by` are `model`, or `rule` where a model could not: then every member was asked the
    question itself, or the members' answers stand side by side. `notes` say what was put right on the way. `model`
    is the one that joined, empty where none did.
    """

    text: str
    evidence: list[Evidence]
    missing: list[Gap]
    notes: list[str]
    planned_by: str
    joined_by: str
    model: str
    rounds: int


class QuestionIn(BaseModel):
    """`subject` is whom or what the question is about, where it is one: a client's id, a user's, an e-mail address."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=MAX_QUESTION)
    subject: str = Field("", max_length=128)
    limits: LimitsIn | None = None
    stream: bool = False


class QuestionHead(BaseModel):
    """A question in a list. `problem` says why there is no answer."""

    id: str
    team: str
    question: str
    subject: str
    state: QuestionState
    asked_by: str
    created_at: datetime
    finished_at: datetime | None
    tokens: int
    cost_usd: float
    duration_ms: float
    problem: str


class QuestionOut(QuestionHead):
    """A question, its tasks and its answer, which is null while the team works and where it came to none."""

    limits: LimitsOut
    answer: TeamAnswer | None
    tasks: list[TaskOut]


class QuestionPage(BaseModel):
    items: list[QuestionHead]
    next_cursor: str | None


class MemberOut(BaseModel):
    """A member and its tools for this tenant. `absent` are tools that it lacks, each with the reason."""

    name: str
    title: str
    knows: str
    tools: list[str]
    absent: list[str]


class TeamOut(BaseModel):
    name: str
    title: str
    answers: str
    limits: LimitsOut
    members: list[MemberOut]


class TeamList(BaseModel):
    teams: list[TeamOut]
