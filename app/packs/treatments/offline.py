"""The offline rule of `treatments_propose`: the rates of similar past cases as they are. It is not a language model."""

from typing import Any, Final

from app.agent.model import ModelRequest
from app.packs.treatments.proposing import BatchAnswer, ModelProposal, ProfileAnswer

MANY: Final = 64


def propose(request: ModelRequest) -> str:
    """The JSON of a BatchAnswer from `request.facts`: its profiles as the prompt shows them."""
    answers = [_answer(profile) for profile in request.facts["profiles"]]
    return BatchAnswer(answers=answers).model_dump_json()


def _answer(profile: dict[str, Any]) -> ProfileAnswer:
    without = profile["without"][0]
    proposals = [
        ModelProposal(treatment=name, chance=chance, reason=_reason(chance, trials, without))
        for name, (chance, trials) in profile["cases"].items()
    ]
    return ProfileAnswer(profile=profile["profile"], proposals=proposals)


def _reason(chance: float, trials: int, without: float) -> str:
    if not trials:
        return f"No similar case yet: {chance:.1%} is what the catalogue assumes, {without:.1%} without it."
    cases = f"{trials} similar cases or more" if trials >= MANY else f"only {trials} similar case{'s'[: trials != 1]}"
    return f"About {chance:.1%} by {cases}, {without:.1%} without it."
