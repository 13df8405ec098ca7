"""The folder of a demo: what it is of, and how far it has come, so that the same command goes on there."""

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from app.errors import ConfigError

PLAN, LOCK = "demo.json", "demo.lock"
PROGRESS: Final = "progress.json"


class Plan(BaseModel):
    """What a demo is of; `data` is the SHA-256 of its file."""

    data: str
    customers: int
    judged: int


class Worker(BaseModel):
    """A worker process that has ended. `peak` in bytes."""

    ended_at: datetime
    peak: int
    killed: bool


class Progress(BaseModel):
    """`steps` are done, `workers` ended, in their order."""

    steps: list[str] = []
    workers: list[Worker] = []

    @property
    def kills(self) -> int:
        return sum(worker.killed for worker in self.workers)


@contextlib.contextmanager
def demo_folder(keep: Path | None, plan: Plan) -> Iterator[Path]:
    """The folder, which nobody else works in meanwhile; a temporary one, gone with the block, where none is kept.

    Raises ConfigError for a folder that holds anything else, cannot be written, or is in use.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="trellis-demo-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    folder = keep.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _claim(folder, plan)
        with (folder / LOCK).open("wb") as lock:
            _lock(lock.fileno(), folder)
            yield folder
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"The folder {folder} cannot be used ({error.strerror}): give another with --keep.") from None


def _claim(folder: Path, plan: Plan) -> None:
    file = folder / PLAN
    if not file.exists():
        if any(folder.iterdir()):
            raise ConfigError(f"The folder {folder} holds other things: give an empty or a new one with --keep.")
        _write(file, plan)
    try:
        there = Plan.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ConfigError(f"{file} is no demo's: give another folder with --keep.") from None
    if there != plan:
        other = " of another file" if there.data != plan.data else ""
        raise ConfigError(
            f"The folder {folder} is of another demo ({there.customers:,} customers{other}, {there.judged:,} of them "
            "judged): give another one with --keep."
        )


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"Another demo works in {folder}: wait for it, or give another folder.") from None


class Steps:
    """The progress of one run's data folder, kept in a file of it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True, mode=0o700)
        self._file = home / PROGRESS
        self.progress = Progress.model_validate_json(self._file.read_bytes()) if self._file.exists() else Progress()

    def done(self, step: str) -> bool:
        return step in self.progress.steps

    def finish(self, step: str) -> None:
        self.progress.steps.append(step)
        _write(self._file, self.progress)

    def add(self, worker: Worker) -> None:
        self.progress.workers.append(worker)
        _write(self._file, self.progress)


def _write(file: Path, content: BaseModel) -> None:
    """All of it or nothing, whenever the process ends."""
    part = file.with_suffix(".part")
    part.write_text(content.model_dump_json())
    part.replace(file)
