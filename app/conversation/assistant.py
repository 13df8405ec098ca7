"""Answers one question of one user, as a stream of events: the way in for packs that talk."""

from collections.abc import AsyncIterator, Sequence

from app.conversation.events import Answer, Event
from app.conversation.spec import AssistantSpec
from app.memory import Turn
from app.principal import Principal


class Assistant:
    """Turns of any assistant. Built once, in `app.container`; a pack gets it as `kit.assistant`."""

    def turn(
        self,
        principal: Principal,
        spec: AssistantSpec,
        question: str,
        *,
        history: Sequence[Turn] | None = None,
        streamed: bool,
    ) -> AsyncIterator[Event]:
        """What happens, as it happens; ends with `Done` or `Failed`.

        Raises a TrellisError before the first event only: what goes wrong later is `Failed`. Closing the iterator
        gives the turn up: the model call is cancelled unless somebody else listens to the same turn.

        Args:
            history: the earlier turns, oldest first, kept by the caller: memory is then neither read nor written.
                None is the memory of `principal.user` with this bot.
            streamed: False makes one whole call a step (cheaper); the text comes as one `Token`.
        """
        raise NotImplementedError

    async def answer(
        self, principal: Principal, spec: AssistantSpec, question: str, *, history: Sequence[Turn] | None = None
    ) -> Answer:
        """The whole turn. Raises the TrellisError that it failed with."""
        raise NotImplementedError

    def peek(
        self, principal: Principal, spec: AssistantSpec, question: str, *, history: Sequence[Turn] | None = None
    ) -> bytes | None:
        """The answer as `app.conversation.wire.dump` writes it, where this process has it at hand; else None.

        Awaits nothing. A hit is a whole turn: memory has it and metrics count it. After None call `answer` or `turn`.
        """
        raise NotImplementedError
