"""What an answer depends on, as a key: two turns with the same key have the same answer."""

import hashlib
from dataclasses import dataclass
from datetime import date

import orjson

from app.conversation.history import History
from app.conversation.spec import AssistantSpec


@dataclass(frozen=True, slots=True)
class Ground:
    """What stands behind every answer of an assistant at one moment.

    Args:
        user: whose answers they are; "" where everybody of the tenant gets the same.
        index_version: of the bot's knowledge; moves with every change of it.
        models: the models of the spec's route.
        switches: flags that change what is found.
        today: is in the prompt.
    """

    tenant_id: str
    user: str
    index_version: int
    models: str
    switches: tuple[bool, ...]
    today: date

    def digest(self, spec: AssistantSpec) -> str:
        """Of everything but the question and what was said before it."""
        return _digest(
            [self.tenant_id, self.user, self.index_version, self.models, self.switches, self.today, spec.digest]
        )


def answer_key(ground: str, question: str, history: History) -> str:
    """`ground` is a `Ground.digest`; the question counts without its spacing."""
    return _digest([ground, plain(question), history.summary, [[turn.role, turn.text] for turn in history.turns]])


def plain(question: str) -> str:
    return " ".join(question.split())


def readable(question: str) -> str:
    """The question as every store takes it: lone surrogates and NUL characters are replaced."""
    return question.encode("utf-8", "replace").decode().replace("\0", " ")


def _digest(parts: list[object]) -> str:
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()
