"""The revisions that this program knows, oldest first: a chain without branches."""

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from app.errors import ConfigError

BASE, HEAD, ONE_BACK = "base", "head", "-1"
_INI = Path(__file__).with_name("alembic.ini")


@dataclass(frozen=True, slots=True)
class Step:
    """One revision, applied (`up`) or taken back. `before` and `after` are the schema's revisions (None: empty)."""

    revision: str
    title: str
    up: bool
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.revision} {self.title}"


class Revisions:
    """Raises ConfigError where the installation has none."""

    def __init__(self) -> None:
        self._scripts: list[Script] = list(ScriptDirectory.from_config(config_of_alembic()).walk_revisions())[::-1]
        if not self._scripts:
            raise ConfigError("This installation has no database revisions: install Trellis again.")
        self.names = [script.revision for script in self._scripts]

    @property
    def head(self) -> str:
        """The revision that this program is written for."""
        return self.names[-1]

    def named(self, target: str, current: str | None) -> str | None:
        """The revision that a person means: `head`, `base` (None: an empty database), `-1` or one by its name.

        Raises ConfigError for one that is not there.
        """
        if target == BASE:
            return None
        if target == ONE_BACK:
            return self.names[self.position(current) - 2] if self.position(current) > 1 else None
        if target != HEAD and target not in self.names:
            raise ConfigError(f"There is no revision '{target}': use one of {', '.join(self.names)}, head or base.")
        return self.head if target == HEAD else target

    def position(self, revision: str | None) -> int:
        """How many revisions lead there; 0 for an empty database. Raises ConfigError for one of a newer program."""
        if revision is None:
            return 0
        if revision not in self.names:
            raise ConfigError(
                f"The database has schema {revision}, which this version of Trellis does not know: "
                "it was written by a newer one. Use that version, or another data folder (TRELLIS_HOME)."
            )
        return self.names.index(revision) + 1

    def path(self, current: str | None, target: str | None) -> list[Step]:
        """What leads from one schema to another; empty where they are the same. Raises ConfigError like `position`."""
        start, end = self.position(current), self.position(target)
        if end >= start:
            return [self._step(at, up=True) for at in range(start, end)]
        return [self._step(at, up=False) for at in reversed(range(end, start))]

    def _step(self, at: int, *, up: bool) -> Step:
        name, former = self.names[at], self.names[at - 1] if at else None
        before, after = (former, name) if up else (name, former)
        return Step(name, self._scripts[at].doc, up, before, after)


def accepted(scripts: ScriptDirectory, revision: str) -> list[str]:
    """The programs, named by the head that they are written for, that run on a schema; the oldest first.

    A revision accepts all that the one before it did, and itself, unless its module names an `oldest_program`.
    """
    programs: list[str] = []
    for script in reversed(list(scripts.iterate_revisions(revision, BASE))):
        programs.append(script.revision)
        oldest = getattr(script.module, "oldest_program", programs[0])
        programs = programs[programs.index(oldest) :]
    return programs


def apply(connection: Connection, step: Step) -> None:
    """Runs one step on a connection, and records it."""
    config = config_of_alembic()
    config.attributes["connection"] = connection
    move = command.upgrade if step.up else command.downgrade
    move(config, step.after or BASE)


def sql(step: Step, dialect: str) -> str | None:
    """The statements of a step; None where they depend on what the database holds (SQLite copies tables)."""
    written = StringIO()
    config = config_of_alembic(written)
    config.attributes["dialect"] = dialect
    move = command.upgrade if step.up else command.downgrade
    try:
        move(config, f"{step.before or BASE}:{step.after or BASE}", sql=True)
    except CommandError:
        return None
    return written.getvalue()


def config_of_alembic(output: StringIO | None = None) -> Config:
    return Config(_INI, output_buffer=output) if output else Config(_INI)
