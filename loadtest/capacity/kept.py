"""The steps of a search in a folder, one file each, so that a search that was interrupted goes on."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from loadtest.capacity.judge import Step
from loadtest.capacity.search import Search

_STEP: Final = TypeAdapter(Step)
_ABOUT: Final = "search.json"
WORK: Final = "k6"
"""Where k6's own files are."""


class KeptError(ValueError):
    """The folder holds something else than this search. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a search is, besides its folder: steps of another revision or another machine are not its own."""

    folder: Path
    phase: str
    revision: str
    machine: str
    search: Search

    def open(self) -> tuple[Step, ...]:
        """The steps that were made, in their order. Raises KeptError where the folder holds another search."""
        about = self.folder / _ABOUT
        if not about.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise KeptError(f"{self.folder} holds files that are no search's: name another folder with OUT=.")
            self.folder.mkdir(parents=True, exist_ok=True)
            about.write_text(json.dumps(self._about(), indent=1) + "\n")
            return ()
        try:
            if json.loads(about.read_text()) != self._about():
                raise KeptError(
                    f"{self.folder} holds the search of another phase, revision or machine: name another folder with "
                    "OUT=, or take that one away."
                )
            return tuple(_STEP.validate_json(path.read_bytes()) for path in sorted(self.folder.glob("step-*.json")))
        except (OSError, json.JSONDecodeError, ValidationError) as error:
            raise KeptError(f"{self.folder} cannot be read: {str(error).splitlines()[0]}.") from error

    def forget(self) -> None:
        """Takes the steps of an earlier search away, and nothing else."""
        for path in (self.folder / _ABOUT, *self.folder.glob("step-*.json")):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def add(self, number: int, step: Step) -> None:
        """Whole or not at all: what is half written is never read."""
        path = self.folder / f"step-{number:03}.json"
        draft = path.with_suffix(".part")
        draft.write_bytes(_STEP.dump_json(step, indent=1) + b"\n")
        draft.replace(path)

    def _about(self) -> dict[str, object]:
        return {"phase": self.phase, "revision": self.revision, "machine": self.machine, **asdict(self.search)}
