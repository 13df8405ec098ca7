"""Runs a page's blocks, verbatim, as somebody at a terminal would: what a block sets is there for the next."""

import asyncio
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
import orjson

from runbooks.drill.rehearsal import Stage
from runbooks.pages import Block, Language
from tests.support.components import COMPONENTS

ROOT: Final = Path(__file__).parent.parent.parent
LIMIT_S: Final = 600.0
QUERY_S: Final = 10.0
_PSQL: Final = "psql -X -q -A -t -v ON_ERROR_STOP=1"
# -a: what a block assigns is there in the next, as in one terminal.
_SCRIPT: Final = """set -euo pipefail
if [ -f {state} ]; then . {state}; fi
trap 'declare -px > {state}' EXIT
set -a
{body}
"""
_DURATION: Final = r"(?:\d+(?:ms|[smhdwy]))+"
_WINDOW: Final = re.compile(rf"(\[\s*|:\s*|\boffset\s+-?)({_DURATION})(?=\s*[\]:]|\b)")
_PART: Final = re.compile(r"(\d+)(ms|[smhdwy])")
_MS: Final = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


@dataclass(frozen=True)
class Output:
    """What a block answered. `code`: the exit code, 0 for a query that was answered; `err`: what it said beside."""

    code: int
    out: str
    err: str = ""

    def __str__(self) -> str:
        told = "\n".join(part.rstrip() for part in (self.out, self.err) if part.strip()) or "(no output)"
        return f"exit code {self.code}\n{told}"


class Terminal:
    """Where the blocks of one rehearsal run. Whatever they left running is ended with it.

    Args:
        folder: for the shims, and what blocks say.
    """

    def __init__(self, folder: Path, stage: Stage) -> None:
        self._folder = folder
        self._stage = stage
        self._groups: list[int] = []
        self._runs = 0
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        files = {"TMPDIR": str(folder / "tmp")}
        self.environment = _environment(files | dict(stage.environment), _shims(folder / "bin", stage.programs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for group in self._groups:
            _kill(group)

    async def run(self, block: Block, limit_s: float = LIMIT_S) -> Output:
        """Raises TimeoutError after `limit_s`; what the block had started is ended then."""
        async with asyncio.timeout(limit_s):
            match block.language:
                case Language.SH:
                    return await self._bash(block.body)
                case Language.SQL:
                    return await self._bash(f"{_PSQL} <<'SQL'\n{block.body}\nSQL")
                case Language.PROMQL:
                    return await self._query(block.body)

    async def _bash(self, body: str) -> Output:
        self._runs += 1
        base = self._folder / f"block-{self._runs}"
        script, out, err = (base.with_suffix(f".{end}") for end in ("sh", "out", "err"))
        script.write_text(_SCRIPT.format(state=shlex.quote(str(self._folder / "variables")), body=body))
        # Into files: a pipe would wait for whatever a block leaves running.
        with out.open("wb") as told, err.open("wb") as complained:
            process = await asyncio.create_subprocess_exec(
                "bash",
                str(script),
                cwd=ROOT,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=told,
                stderr=complained,
                start_new_session=True,
            )
            try:
                code = await process.wait()
            except BaseException:
                _kill(process.pid)
                await process.wait()
                raise
        # Its number is nobody else's while something of it runs.
        if _alive(process.pid):
            self._groups.append(process.pid)
        return Output(code, out.read_text(errors="replace"), err.read_text(errors="replace"))

    async def _query(self, query: str) -> Output:
        if self._stage.prometheus is None:
            return Output(1, "", "the rehearsal has no Prometheus to ask")
        return await ask(self._stage.prometheus, faster(query, self._stage.pace))


async def ask(prometheus: str, query: str) -> Output:
    """An instant query's answer, a line for each series: its labels and its value."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=QUERY_S)) as session,
            session.post(f"{prometheus}/api/v1/query", data={"query": query}) as response,
        ):
            answer = orjson.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        return Output(1, "", f"Prometheus does not answer: {error!r}")
    if answer["status"] != "success":
        return Output(1, "", f"{query}: {answer['error']}")
    found = answer["data"]
    if found["resultType"] != "vector":
        return Output(0, str(found["result"][1]))
    lines = (f"{_labels(each['metric'])} {each['value'][1]}" for each in found["result"])
    return Output(0, "\n".join(lines))


def faster(query: str, pace: float) -> str:
    """The query with each window and offset divided by `pace`, as the rules of a stage have them; never below 1 ms."""
    return _WINDOW.sub(lambda found: f"{found[1]}{max(1, round(_milliseconds(found[2]) / pace))}ms", query)


def _milliseconds(duration: str) -> int:
    return sum(int(count) * _MS[unit] for count, unit in _PART.findall(duration))


def _labels(metric: Mapping[str, str]) -> str:
    inner = ", ".join(f'{name}="{value}"' for name, value in sorted(metric.items()) if name != "__name__")
    return f"{metric.get('__name__', '')}{{{inner}}}"


def _shims(folder: Path, programs: Mapping[str, Sequence[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, command in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        path.chmod(0o755)
    return folder


def _environment(of_stage: Mapping[str, str], shims: Path) -> dict[str, str]:
    """This process's without its own settings; on the PATH the shims, then what Trellis installs, then servers'."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRELLIS_", "PG", "AWS_"))}
    found = (component.find() for component in COMPONENTS.values())
    installed = dict.fromkeys(str(path.parent) for path in found if path is not None)
    places = [str(shims), str(Path(sys.executable).parent), *installed, kept.get("PATH", "")]
    return {"COLUMNS": "160", **kept, **of_stage, "PATH": ":".join(places)}


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    # Give the dead a moment to be gone before their files are removed.
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        if not _alive(group):
            return
        time.sleep(0.01)


def _alive(group: int) -> bool:
    """Whether a process of the group is there, also one that ended and that nobody waited for."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
