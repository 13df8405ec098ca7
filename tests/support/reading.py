"""What stands around ingestion in tests: files read by the book, and caches that note what they were told."""

from dataclasses import dataclass, field

from app.errors import InvalidInput


@dataclass(frozen=True)
class Found:
    title: str | None
    text: str
    warnings: tuple[str, ...] = ()


@dataclass
class FakeReader:
    """A file's text is its bytes; its title is its first line where that begins with `TITLE:`."""

    asked: list[str | None] = field(default_factory=list)
    error: Exception | None = None

    async def text(self, content: bytes, media_type: str, file_name: str | None) -> Found:
        self.asked.append(file_name)
        if self.error is not None:
            raise self.error
        text = content.decode("utf-8", "replace")
        if "\ufffd" in text:
            raise InvalidInput(f"'{file_name}' is no text: save it as UTF-8.")
        first, _, rest = text.partition("\n")
        return Found(first.removeprefix("TITLE:"), rest) if first.startswith("TITLE:") else Found(None, text)


@dataclass
class NotedCaches:
    """Remembers the tags that were dropped."""

    dropped: list[str] = field(default_factory=list)

    async def drop(self, *tags: str) -> int:
        self.dropped += tags
        return 0
