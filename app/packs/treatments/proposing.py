"""What the model answers about a batch of profiles, read piece by piece: a broken piece costs no other its answer."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from app.agent.parsing import InvalidAnswer, parse_answer, parse_beginning
from app.packs.treatments.profiles import Profile

MAX_REASON: Final = 200


def _one_line(text: Any) -> Any:
    """Printable characters on one line, at most `MAX_REASON`."""
    if not isinstance(text, str):
        return text
    shown = text if text.isprintable() else "".join(mark if mark.isprintable() else " " for mark in text)
    return " ".join(shown.split())[:MAX_REASON]


class ModelProposal(BaseModel):
    """`chance` that the treatment succeeds with such a customer, 0 to 1."""

    treatment: str = Field(max_length=40)
    chance: float = Field(ge=0, le=1, strict=True, allow_inf_nan=False)
    reason: Annotated[str, BeforeValidator(_one_line)] = Field(min_length=1)


class ProfileAnswer(BaseModel):
    profile: int = Field(description="The profile's number")
    proposals: list[ModelProposal] = Field(max_length=50)


class BatchAnswer(BaseModel):
    """What the model is asked for."""

    answers: list[ProfileAnswer]


class _Pieces(BaseModel):
    answers: list[Any]


MISSING: Final = "the model left this profile out"
CUT_OFF: Final = "the model's answer was cut off"


def read_answers(
    text: str, profiles: Sequence[Profile], *, cut_off: bool
) -> tuple[dict[int, list[ModelProposal]], dict[int, str]]:
    """By a profile's place in the batch (from 0): its proposals, or what is wrong; no place is in both or in neither.

    Kept are proposals for treatments that the profile allows, the first of each. A place that is answered twice, or
    with nothing but treatments that are not allowed, counts as not answered. No problem quotes the model.

    Args:
        cut_off: whether the answer ended before its end: its last piece is then not to be trusted.
    """
    try:
        pieces, cut_off = _pieces(text, cut_off=cut_off)
    except InvalidAnswer as error:
        return {}, dict.fromkeys(range(len(profiles)), _as_part(error.problem))
    good: dict[int, list[ModelProposal]] = {}
    bad: dict[int, str] = dict.fromkeys(range(len(profiles)), CUT_OFF if cut_off else MISSING)
    seen: set[int] = set()
    for piece in pieces:
        place = _place(piece, len(profiles))
        if place is None:
            continue
        if place in seen:
            good.pop(place, None)
            bad[place] = "the model answered this profile twice"
            continue
        seen.add(place)
        try:
            good[place] = _allowed(ProfileAnswer.model_validate(piece), profiles[place])
            del bad[place]
        except ValidationError as error:
            bad[place] = _problem(error)
        except InvalidAnswer as error:
            bad[place] = error.problem
    return good, bad


def _pieces(text: str, *, cut_off: bool) -> tuple[list[Any], bool]:
    """The answer's pieces, and whether it ended early. Raises InvalidAnswer where there are none to be read."""
    try:
        return parse_answer(_Pieces, text).answers, cut_off
    except InvalidAnswer as error:
        try:
            begun = parse_beginning(text)
        except InvalidAnswer:
            raise error from None
    pieces = begun.get("answers") if isinstance(begun, Mapping) else None
    if not isinstance(pieces, list):
        raise InvalidAnswer("It has no list of answers.")
    return pieces[:-1], True


def _place(piece: Any, count: int) -> int | None:
    number = piece.get("profile") if isinstance(piece, Mapping) else None
    known = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= count
    return number - 1 if known and number is not None else None


def _allowed(answer: ProfileAnswer, profile: Profile) -> list[ModelProposal]:
    """Raises InvalidAnswer where something was proposed, but nothing that may be."""
    first: dict[str, ModelProposal] = {}
    for proposal in answer.proposals:
        if proposal.treatment in profile.options:
            first.setdefault(proposal.treatment, proposal)
    if answer.proposals and not first:
        raise InvalidAnswer("the model proposed only treatments that this customer may not have")
    return list(first.values())


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"the model's answer does not fit at {where}: {first['msg']}"[:MAX_REASON]


def _as_part(problem: str) -> str:
    return f"the model's answer cannot be used: {problem}"[:300]
