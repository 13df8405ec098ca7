"""Dockerfiles without Docker: their instructions, what a build gets to see, and a stage's steps on this machine."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_STEP = re.compile(r"(?P<name>[A-Z]+)\s+(?P<rest>.+)", re.DOTALL)
_PATH = re.compile(r"(?<![\w./])/app\b")


@dataclass(frozen=True)
class Instruction:
    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        """Without options (`--from=build`); those of a JSON array where it is one."""
        if self.rest.startswith("["):
            return list(json.loads(self.rest))
        return [word for word in self.rest.split() if not word.startswith("--")]

    def option(self, name: str) -> str | None:
        found = re.search(rf"--{name}=(\S+)", self.rest)
        return found[1] if found else None


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]


def stages(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The global build arguments with their defaults, and the stages with those filled in."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            found.append(Stage(_filled(base, arguments), name.strip()))
        elif found:
            found[-1].instructions.append(instruction)
        else:
            assert instruction.name == "ARG", instruction
            key, _, value = instruction.rest.partition("=")
            arguments[key] = value
    return arguments, found


def _instructions(text: str) -> Iterator[Instruction]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if line.strip():
            match = _STEP.fullmatch(line.strip())
            assert match is not None, line
            yield Instruction(match["name"], match["rest"].strip())


def _filled(text: str, arguments: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], text)


def sent(path: str, rules: str) -> bool:
    """Whether a build gets to see a file, by the text of .dockerignore: the last rule that matches it decides."""
    kept = True
    for rule in filter(None, (line.strip() for line in rules.splitlines() if not line.startswith("#"))):
        allows = rule.startswith("!")
        if _matches(path, rule.removeprefix("!")):
            kept = allows
    return kept


def _matches(path: str, pattern: str) -> bool:
    """A pattern holds for a path and all below it; `*` does not cross a slash, `**` does."""
    places = [str(place) for place in (PurePosixPath(path), *PurePosixPath(path).parents) if str(place) != "."]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatch(PurePosixPath(place).name, pattern[3:]) for place in places)
    return any(place.count("/") == pattern.count("/") and fnmatch.fnmatch(place, pattern) for place in places)


@dataclass
class Build:
    """A stage's steps under `root` in place of `/`, with the files of `repo` that a build gets to see.

    `tools`: what is put on PATH; `environment`: goes before the stage's own.
    """

    repo: Path
    root: Path
    tools: Path
    environment: Mapping[str, str]

    def run(self, stage: Stage) -> None:
        """Raises CalledProcessError with what a step said."""
        environment = {"PATH": f"{self.tools}:{os.environ['PATH']}", "HOME": os.environ["HOME"]}
        place = self.root
        for step in stage.instructions:
            if step.name == "WORKDIR":
                place = Path(self._here(step.rest))
                place.mkdir(parents=True, exist_ok=True)
            elif step.name == "ENV":
                environment |= dict(word.split("=", 1) for word in self._here(step.rest).split())
            elif step.name == "COPY":
                self._copy(step, place)
            elif step.name == "RUN" and not step.rest.startswith("pip install"):
                command = self._here(re.sub(r"--mount=\S+\s+", "", step.rest))
                subprocess.run(
                    ["bash", "-ec", command],
                    cwd=place,
                    env=environment | dict(self.environment) | {"UV_QUIET": "1"},
                    check=True,
                )

    def _here(self, text: str) -> str:
        return _PATH.sub(f"{self.root}/app", text)

    def _copy(self, step: Instruction, place: Path) -> None:
        *sources, target = step.words
        for source in sources:
            goal = place / target / (source if target.endswith("/") else "")
            for path in sources_of(self.repo, source):
                to = goal / Path(path).relative_to(source) if path != source else goal
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.repo / path, to)


def sources_of(repo: Path, source: str) -> list[str]:
    """The files that a COPY of a file or a folder takes, seen from the repo."""
    rules = (repo / ".dockerignore").read_text()
    found = [repo / source] if (repo / source).is_file() else sorted((repo / source).rglob("*"))
    names = [str(path.relative_to(repo)) for path in found if path.is_file()]
    return [name for name in names if sent(name, rules)]
