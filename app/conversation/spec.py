"""How an assistant answers: what a pack decides, apart from the one who asks."""

import hashlib
from dataclasses import dataclass, field

import orjson

from app.agent.budgets import NO_CAPS, Caps
from app.agent.prompts import Prompt


@dataclass(frozen=True, slots=True)
class AssistantSpec:
    """One assistant.

    Args:
        pack: the pack's name, for decisions, metrics and the kill switch.
        bot: whose knowledge is searched, and part of every cache and memory key.
        revision: changes with any of the settings; part of every cache key.
        prompt: its template has the placeholders `question`, `evidence`, `history` (fenced) and `today` (trusted).
        route: a model route (`cheap`, `strong`).
        tools: tools that read, which the model may ask for.
        passages: how many are put before the model at most.
        needs_evidence: without a strong passage the assistant refuses, unless it has tools.
        semantic_threshold: of `Sameness.score`, from which another question's answer may be given; None is never.
        personal: answers depend on who asks: cached under the user, never shared, never by meaning.
        history_tokens: what the earlier turns may take of the prompt; older ones are summarised.
        deadline_s: for the whole turn.

    Build one for each revision of a bot and keep it: `digest`, of all that an answer depends on, is made once.
    """

    pack: str
    bot: str
    revision: str
    prompt: Prompt
    route: str
    tools: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 800
    passages: int = 5
    tags: tuple[str, ...] = ()
    needs_evidence: bool = True
    semantic_threshold: float | None = None
    personal: bool = False
    cached: bool = True
    history_tokens: int = 1500
    max_steps: int = 4
    deadline_s: float = 60.0
    caps: Caps = NO_CAPS
    experiment: str | None = None
    arm: str | None = None
    digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prompt = [self.prompt.name, self.prompt.version, self.prompt.digest]
        how = [self.route, self.tools, self.temperature, self.max_tokens, self.max_steps]
        what = [self.passages, self.tags, self.needs_evidence, self.personal]
        # Two arms may answer alike; but feedback counts for the arm of the decision that the answer names.
        trial = [self.experiment, self.arm]
        packed = orjson.dumps([self.pack, self.bot, self.revision, prompt, how, what, trial])
        object.__setattr__(self, "digest", hashlib.blake2b(packed, digest_size=20).hexdigest())
