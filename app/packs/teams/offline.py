"""The offline rules of planner, members and joiner: who is asked by words, what is said by figures. No language model.

The same facts give the same plan, look-ups and answer, always.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from pydantic import BaseModel, ConfigDict

from app.agent.model import ModelRequest, ToolCall
from app.agent.offline import OfflineRule
from app.conversation.offline import conversation_answer
from app.packs.teams.offline_calls import Case, Look, calls_for
from app.packs.teams.offline_words import Said, Teller
from app.packs.teams.schemas import JointAnswer, JointGap, MemberAnswer, Plan, PlanTask
from app.packs.teams.team import Teams

_FILE: Final = Path(__file__).with_name("offline.yaml")
_SOURCE: Final = re.compile(r"[a-z_]+-\d+")
_NOBODY: Final = "none"


class _Hint(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    words: tuple[str, ...]
    first: bool = False


def offline_rules() -> Mapping[str, OfflineRule]:
    """For `Pack.offline`: a rule for each prompt of the teams."""
    hints = {name: _Hint.model_validate(hint) for name, hint in yaml.safe_load(_FILE.read_text("utf-8")).items()}
    teller = Teller(conversation_answer())
    rules: dict[str, OfflineRule] = {}
    for team in Teams.load().all():
        rules[team.planner], rules[team.joiner] = partial(_plan, hints), _join
        rules |= {member.prompt: partial(_member, teller) for member in team.members}
    return rules


def _plan(hints: Mapping[str, _Hint], request: ModelRequest) -> str:
    """Those whose words the question has, each with the question itself; one round."""
    facts = request.facts
    members, question = facts["members"], facts["question"]
    if facts["known"]:
        return Plan(tasks=[]).model_dump_json()
    text = f" {question.lower()}"
    named = [name for name in members if any(f" {word}" in text for word in hints[name].words)] or members
    firsts = [name for name in members if hints[name].first and facts["subject"] == _NOBODY]
    others = [name for name in named if name not in firsts]
    after = list(range(1, len(firsts) + 1))
    tasks = [PlanTask(member=name, question=question) for name in firsts]
    tasks += [PlanTask(member=name, question=question, after=after) for name in others]
    return Plan(tasks=tasks).model_dump_json()


def _member(teller: Teller, request: ModelRequest) -> str | tuple[ToolCall, ...]:
    """Looks up what the tools allow, at most twice, then says what came of it."""
    case = _case(request)
    if len(case.turns) < 2:
        calls = calls_for(case, request.tools)
        if calls:
            return calls
    return _answer([teller.tell(look, case) for turn in case.turns for look in turn])


def _answer(said: Sequence[Said]) -> str:
    text = " ".join(dict.fromkeys(one.text for one in said if one.text))
    missing = list(dict.fromkeys(gap for one in said for gap in one.missing))
    if not said:
        missing.append("Nothing could be looked up: nobody said whom or what it is about.")
    evidence = list(dict.fromkeys(row for one in said if one.text for row in one.evidence))
    return MemberAnswer(answer=text, evidence=evidence, missing=missing).model_dump_json()


def _case(request: ModelRequest) -> Case:
    facts = request.facts
    subject = "" if facts["subject"] == _NOBODY else facts["subject"]
    return Case(facts["question"], facts["part"], subject, _named(facts["before"]), _turns(request))


def _named(before: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The ids of rows that members before this one rest on: whom it is about. Whole look-ups are none."""
    ids = (row["id"].partition(":")[2] for one in before for row in one.get("evidence", ()))
    return tuple(dict.fromkeys(one for one in ids if not _SOURCE.fullmatch(one) or "_" not in one))


def _turns(request: ModelRequest) -> tuple[tuple[Look, ...], ...]:
    """What each round of look-ups gave."""
    turns: list[list[Look]] = []
    calls: dict[str, ToolCall] = {}
    for message in request.messages:
        if message.tool_calls:
            turns.append([])
            calls |= {call.id: call for call in message.tool_calls}
        elif message.role == "tool":
            turns[-1].append(_look(calls[message.tool_call_id or ""].name, message.content))
    return tuple(tuple(turn) for turn in turns)


def _look(tool: str, content: str) -> Look:
    try:
        told = orjson.loads(content)
    except orjson.JSONDecodeError:
        return Look(tool, "", None, "The result was too long to be read whole.")
    if "source" not in told:
        return Look(tool, "", None, str(told.get("error", "The look-up gave nothing.")))
    return Look(tool, told["source"], told["result"])


def _join(request: ModelRequest) -> str:
    """The members' answers, each under its title and with its number."""
    facts = request.facts
    answered = [(facts["titles"].get(one["member"], one["member"]), one) for one in facts["found"] if "answer" in one]
    lines = [f"{title}: {one['answer']} [{one['number']}]" for title, one in answered]
    gaps = [
        JointGap(what=what, why=f"{title} could not find it out.") for title, one in answered for what in one["missing"]
    ]
    evidence = [row["id"] for _, one in answered for row in one["evidence"]]
    return JointAnswer(answer="\n".join(lines), evidence=evidence, missing=gaps).model_dump_json()
