"""Revisions that only tests have: a program newer than this one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from app.storage import revisions

HERE = Path(revisions.__file__).parent / "migrations"
HEAD = revisions.Revisions().head
TEXT = '''"""{title}"""
import sqlalchemy as sa
from alembic import op
from app.storage.migrations import online

revision = "{revision}"
down_revision = "{before}"
{more}

def upgrade():
    {up}

def downgrade():
    {down}
'''


class NewerProgram:
    """This program with further revisions (`add`), while the block of `running` lasts; else it is as it is."""

    def __init__(self, folder: Path) -> None:
        self._versions = folder / "newer"
        self._versions.mkdir(exist_ok=True)
        self._ini = folder / "newer.ini"
        self._ini.write_text(
            f"[alembic]\nscript_location = {HERE}\npath_separator = newline\n"
            f"version_locations =\n    {HERE / 'versions'}\n    {self._versions}\n"
        )
        self._head = HEAD

    def add(self, revision: str, up: str, down: str = "pass", *, more: str = "") -> None:
        """One more revision after the last; `up` and `down` are one line each, `more` a line of the module."""
        text = TEXT.format(revision=revision, before=self._head, title="a test's", up=up, down=down, more=more)
        (self._versions / f"{revision}.py").write_text(text)
        self._head = revision

    @contextmanager
    def running(self) -> Iterator[None]:
        with patch.object(revisions, "_INI", self._ini):
            yield
