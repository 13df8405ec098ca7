"""What a pack adds to the console."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.models import Decision
from app.principal import Role


@dataclass(frozen=True, slots=True)
class NavEntry:
    """One place in the navigation, shown to visitors with at least `role`; `path` begins with `/console`."""

    label: str
    path: str
    role: Role = Role.VIEWER


@dataclass(frozen=True, slots=True)
class Subject:
    """What a decision is about, as a person calls it, and the page that shows it."""

    label: str
    path: str


async def _no_subjects(_session: AsyncSession, _tenant_id: str, _ids: Sequence[str]) -> Mapping[str, Subject]:
    return {}


async def _nothing_more(_session: AsyncSession, _tenant_id: str, _decision: Decision) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class PackPages:
    """A pack's part of the console.

    `router` is mounted at `/console/<pack>`, the files of `static` at `/console/<pack>/static`. Templates in
    `templates` are named `<pack>/<file>`; of these the shell
    shows, where they exist, `inputs.html`, `answer.html` and `judge.html` in a decision's explanation, with what
    `describe` gives. `subjects` names the subjects of decisions; ids that it leaves out are shown as they are.
    `words` says how stored names (of tools, statuses, signals) read.
    """

    router: APIRouter
    nav: tuple[NavEntry, ...]
    templates: Path
    static: Path | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    subjects: Callable[[AsyncSession, str, Sequence[str]], Awaitable[Mapping[str, Subject]]] = _no_subjects
    describe: Callable[[AsyncSession, str, Decision], Awaitable[Mapping[str, Any]]] = _nothing_more
