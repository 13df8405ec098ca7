"""`trellis knowledge add, list, show, retry, delete`: documents through the running server's API."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.administration.events import Refused
from app.administration.rest import Rest
from app.console import KeyOption, UrlOption, out
from app.errors import InvalidInput, NotFound, TrellisError
from app.knowledge.page import File, slug_of
from app.knowledge.parsing.media import ACCEPTED, media_type_of
from app.settings import Settings, load_settings

Result = TypeVar("Result")
SENDERS = 4
POLL_S = 0.5
UNDER_WAY = ("queued", "processing")
SUFFIXES = frozenset(suffix for suffixes in ACCEPTED.values() for suffix in suffixes)
BotOption = Annotated[str, typer.Option("--bot", help="Whose knowledge it is.")]
DEFAULT_BOT = "docs"


@dataclass(slots=True)
class Entry:
    """A file on its way. `status` is what the server says of it, `refused`, or empty before it was sent."""

    path: Path
    slug: str
    status: str = ""
    document_id: str = ""
    chunks: int = 0
    quarantined: int = 0
    said: list[str] = field(default_factory=list)
    sent: bool = False

    @property
    def failed(self) -> bool:
        return self.status in ("failed", "refused")

    def take(self, document: dict[str, Any]) -> None:
        """What the server says of it now."""
        self.document_id, self.status = document["id"], document["status"]
        self.chunks, self.quarantined = document["chunks"], document["quarantined"]
        self.said = [text for text in (document["last_error"], *document["warnings"]) if text]


def collect(paths: Sequence[Path]) -> list[Entry]:
    """The files that are read, of the paths and the folders among them, each with a slug of its own.

    Hidden files and folders are left out. Raises InvalidInput for a path that is not there, or where none is left.
    """
    named = [(path, name) for given in paths for path, name in _files(given)]
    if not named:
        raise InvalidInput(f"There is no file to add: {', '.join(sorted(SUFFIXES))} are read.")
    often = Counter(slug_of(name) for _, name in named)
    entries: dict[str, Entry] = {}
    for path, name in named:
        # `plan.md` beside `plan.pdf`: neither may take the other's place.
        slug = slug_of(name) if often[slug_of(name)] == 1 else slug_of(f"{name.replace('.', '-')}.md")
        if slug in entries:
            raise InvalidInput(f"{path} and {entries[slug].path} would both be called '{slug}': rename one.")
        entries[slug] = Entry(path, slug)
    return list(entries.values())


def _files(given: Path) -> Iterator[tuple[Path, str]]:
    """Files with the name that their slug is made from: within a folder, the way from there."""
    if given.is_dir():
        for path in sorted(given.rglob("*")):
            way = path.relative_to(given)
            if path.is_file() and path.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in way.parts):
                yield path, way.as_posix()
    elif given.is_file():
        yield given, given.name
    else:
        raise InvalidInput(f"There is no file or folder {given}.")


class Sending:
    """Files to a bot's knowledge: only what is new, and then to the end of their indexing."""

    def __init__(self, rest: Rest, settings: Settings, bot: str, tags: Sequence[str]) -> None:
        self._rest = rest
        self._settings = settings
        self._base = base(bot)
        self._tags = list(tags)

    async def send(self, entries: Sequence[Entry], tell: Callable[[], None]) -> None:
        """Uploads what the server does not hold already; `tell` is called after each file."""
        known = {document["slug"]: document async for document in self._rest.pages(self._base)}
        turns = asyncio.Semaphore(SENDERS)

        async def one(entry: Entry) -> None:
            async with turns:
                try:
                    await self._send(entry, known.get(entry.slug))
                except (Refused, InvalidInput, OSError) as error:
                    entry.status = "refused"
                    entry.said = [error.detail if isinstance(error, TrellisError) else str(error)]
            tell()

        async with asyncio.TaskGroup() as group:
            for entry in entries:
                group.create_task(one(entry))

    async def wait(self, entries: Sequence[Entry], tell: Callable[[int], None]) -> None:
        """Until the server is done with each; `tell` gets how many are done."""
        mine = {entry.document_id: entry for entry in entries if not entry.failed}
        left = {id for id, entry in mine.items() if entry.status in UNDER_WAY}
        while left:
            waiting = {one["id"] for status in UNDER_WAY async for one in self._rest.pages(self._base, status=status)}
            left &= waiting
            tell(len(mine) - len(left))
            if left:
                await asyncio.sleep(POLL_S)
        async for document in self._rest.pages(self._base):
            if document["id"] in mine:
                mine[document["id"]].take(document)

    async def _send(self, entry: Entry, known: dict[str, Any] | None) -> None:
        if entry.path.stat().st_size > self._settings.max_upload_bytes:
            raise InvalidInput(f"It has more than {self._settings.max_upload_bytes >> 20} MB: split it.")
        file = await asyncio.to_thread(self._read, entry)
        if known is not None and known["content_hash"] == file.content_hash and known["status"] != "failed":
            entry.take(known)
            return
        fields = {"slug": entry.slug, "tags": ",".join(self._tags)}
        accepted = await self._rest.send_file(self._base, file.file_name, file.content, file.media_type, fields)
        entry.sent = accepted["changed"]
        entry.document_id, entry.status = accepted["document_id"], accepted["status"]

    def _read(self, entry: Entry) -> File:
        content = entry.path.read_bytes()
        kind = media_type_of(content, None, entry.path.name)
        return File.of(entry.slug, None, content, self._tags, kind, entry.path.name)


def base(bot: str) -> str:
    return f"/v1/bots/{bot}/documents"


async def named(rest: Rest, bot: str, name: str) -> dict[str, Any]:
    """A document by id or by slug. Raises NotFound."""
    async for document in rest.pages(base(bot), **({} if name.startswith("doc_") else {"slug": name})):
        if name in (document["id"], document["slug"]):
            return document
    raise NotFound(f"There is no document '{name[:80]}' in the knowledge of '{bot}'.")


def add_documents(commands: typer.Typer) -> None:
    """The commands, on the group that the caller made."""
    _add_sending(commands)
    _add_looking(commands)
    _add_changing(commands)


def _run(work: Callable[[Rest, Settings], Awaitable[Result]], url: str | None, key: str | None) -> Result:
    async def opened() -> Result:
        settings = load_settings()
        async with Rest.open(settings, url, key) as rest:
            return await work(rest, settings)

    return asyncio.run(opened())


def _add_sending(commands: typer.Typer) -> None:
    @commands.command("add")
    def add(
        paths: Annotated[list[Path], typer.Argument(help="Files, or folders with .md, .txt, .html, .pdf, .docx.")],
        bot: BotOption = DEFAULT_BOT,
        tag: Annotated[list[str] | None, typer.Option("--tag", help="Kept with each document; once for each.")] = None,
        url: UrlOption = None,
        key: KeyOption = None,
    ) -> None:
        """Upload what is new or changed, and wait until all of it is indexed; exit 1 where a file failed.

        Ctrl-C is safe: what was sent is indexed all the same, and the next run goes on from there.
        """
        entries = collect(paths)

        async def work(rest: Rest, settings: Settings) -> None:
            sending = Sending(rest, settings, bot, tag or [])
            with _bar() as (bar, task):
                bar.update(task, description="Uploading", total=len(entries))
                await sending.send(entries, lambda: bar.advance(task))
                bar.update(task, description="Indexing", completed=0)
                await sending.wait(entries, lambda done: bar.update(task, completed=done))

        _run(work, url, key)
        _report(entries)
        if any(entry.failed for entry in entries):
            raise typer.Exit(1)


def _add_looking(commands: typer.Typer) -> None:
    @commands.command("list")
    def list_(
        bot: BotOption = DEFAULT_BOT,
        status: Annotated[str | None, typer.Option(help="queued, processing, ready or failed")] = None,
        url: UrlOption = None,
        key: KeyOption = None,
    ) -> None:
        """List a bot's documents, newest first."""

        async def work(rest: Rest, _settings: Settings) -> list[dict[str, Any]]:
            return [one async for one in rest.pages(base(bot), **({"status": status} if status else {}))]

        out.print(listed(_run(work, url, key)))

    @commands.command("show")
    def show(document: str, bot: BotOption = DEFAULT_BOT, url: UrlOption = None, key: KeyOption = None) -> None:
        """Show one document, by id or slug: progress, indexes, what is in quarantine and why."""

        async def work(rest: Rest, _settings: Settings) -> Any:
            return await rest.get(f"{base(bot)}/{(await named(rest, bot, document))['id']}")

        out.print_json(data=_run(work, url, key))


def _add_changing(commands: typer.Typer) -> None:
    @commands.command("retry")
    def retry(
        document: Annotated[str | None, typer.Argument(help="Id or slug; every failed one where not given.")] = None,
        bot: BotOption = DEFAULT_BOT,
        url: UrlOption = None,
        key: KeyOption = None,
    ) -> None:
        """Try a failed document again, or all of them."""

        async def work(rest: Rest, _settings: Settings) -> list[str]:
            failed = rest.pages(base(bot), status="failed")
            wanted = [one async for one in failed] if document is None else [await named(rest, bot, document)]
            for one in wanted:
                await rest.post(f"{base(bot)}/{one['id']}/retry")
            return [one["slug"] for one in wanted]

        slugs = _run(work, url, key)
        out.print(f"{len(slugs)} queued again{': ' if slugs else ''}{', '.join(slugs)}.", markup=False)

    @commands.command("delete")
    def delete(
        documents: Annotated[list[str], typer.Argument(help="Ids or slugs.")],
        bot: BotOption = DEFAULT_BOT,
        url: UrlOption = None,
        key: KeyOption = None,
    ) -> None:
        """Take documents out: their text, their vectors, and the answers that used them."""

        async def work(rest: Rest, _settings: Settings) -> None:
            for one in documents:
                found = await named(rest, bot, one)
                await rest.delete(f"{base(bot)}/{found['id']}")
                out.print(f"{found['slug']} is deleted.", markup=False)

        _run(work, url, key)


@contextmanager
def _bar() -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        yield bar, bar.add_task("", total=None)


def listed(documents: Iterable[dict[str, Any]]) -> Table:
    """Documents as the API lists them. Every command takes the slug: it is never cut; the id is left to `show`."""
    table = Table()
    table.add_column("Slug", no_wrap=True)
    table.add_column("Status", min_width=10)
    table.add_column("Chunks", justify="right", min_width=6)
    table.add_column("Title and what to know", overflow="fold")
    for one in documents:
        table.add_row(one["slug"], one["status"], str(one["chunks"]), _known(one))
    return table


def _known(document: dict[str, Any]) -> str:
    said = document["last_error"] or " ".join(document["warnings"])
    return "\n".join(text for text in (document["title"], said, *_held(document["quarantined"])) if text)


def _held(quarantined: int) -> list[str]:
    return [f"{quarantined} chunks carry instructions and are kept out."] if quarantined else []


def _report(entries: Iterable[Entry]) -> None:
    """The files of which there is something to say, then one line about all."""
    entries = list(entries)
    table = Table("File", "Status", "Chunks", "What to know")
    for entry in entries:
        held = _held(entry.quarantined)
        if entry.failed or held or entry.said:
            table.add_row(str(entry.path), entry.status, str(entry.chunks), " ".join([*entry.said, *held]))
    if table.row_count:
        out.print(table)
    states = Counter("failed" if entry.failed else "new" if entry.sent else "unchanged" for entry in entries)
    chunks = sum(entry.chunks for entry in entries)
    out.print(
        f"{len(entries)} files: {states['new']} indexed, {states['unchanged']} unchanged, {states['failed']} failed; "
        f"{chunks} chunks."
    )
