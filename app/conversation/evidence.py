"""The numbered passages of one turn: what retrieval found, and what tools found on top."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from app.agent.tools import ToolOutcome
from app.conversation.events import Citation
from app.knowledge.base import Passage

MAX_QUOTE: Final = 500
PASSAGES: Final = "passages"
_FIELDS: Final = ("chunk_id", "document_id", "slug", "title", "heading", "text", "score")


def passage_row(passage: Passage) -> dict[str, Any]:
    """A passage as JSON values: in a tool's result, in a decision's inputs."""
    return {**{name: getattr(passage, name) for name in _FIELDS}, "weak": passage.weak}


def passage_of(row: Mapping[str, Any]) -> Passage:
    """The passage of a `passage_row`. Raises KeyError where it is none."""
    return Passage(**{name: row[name] for name in (*_FIELDS, "weak")})


class Evidence:
    """Passages with the numbers that an answer cites them by, from 1. A passage that comes again keeps its number."""

    def __init__(self, passages: Sequence[Passage] = ()) -> None:
        self._passages: list[Passage] = []
        self._numbers: dict[str, int] = {}
        for passage in passages:
            self.add(passage)

    def __len__(self) -> int:
        return len(self._passages)

    def __iter__(self) -> Iterator[tuple[int, Passage]]:
        return iter(enumerate(self._passages, start=1))

    def __contains__(self, number: int) -> bool:
        return 1 <= number <= len(self._passages)

    @property
    def strong(self) -> bool:
        """Whether any passage is ground for an answer."""
        return any(not passage.weak for passage in self._passages)

    @property
    def texts(self) -> list[str]:
        return [passage.text for passage in self._passages]

    def add(self, passage: Passage) -> int:
        """The passage's number."""
        known = self._numbers.get(passage.chunk_id)
        if known is None:
            self._passages.append(passage)
            known = self._numbers[passage.chunk_id] = len(self._passages)
        return known

    def citation(self, number: int) -> Citation:
        """Raises IndexError for a number that no passage has."""
        passage = self._passages[number - 1]
        return Citation(
            number=number,
            document_id=passage.document_id,
            chunk_id=passage.chunk_id,
            slug=passage.slug,
            title=passage.title,
            heading=passage.heading,
            score=passage.score,
            quote=passage.text[:MAX_QUOTE],
        )

    def prompted(self) -> str:
        """The passages as a prompt shows them."""
        return "\n\n".join(f"[{number}] {p.heading or p.title}\n{p.text}" for number, p in self) or "none"

    def numbered(self, outcome: ToolOutcome) -> Any:
        """A tool's result as the model is told it: passages in it take the next numbers, as `number`."""
        found = passages_of(outcome)
        if not found:
            return outcome.result
        rows = [{"number": self.add(p), "title": p.heading or p.title, "text": p.text} for p in found]
        return {**outcome.result, PASSAGES: rows}


def passages_of(outcome: ToolOutcome) -> list[Passage]:
    """The passages in a tool's result: rows of `passage_row` under `passages`."""
    result = outcome.result
    rows = result.get(PASSAGES) if isinstance(result, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "chunk_id" in row for row in rows):
        return []
    return [passage_of(row) for row in rows]
