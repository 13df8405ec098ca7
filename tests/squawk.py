"""What squawk finds in the revisions' SQL for PostgreSQL: `python -m tests.squawk`.

The rules that are left out, and why, are in `squawk.toml`.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.storage.revisions import Revisions, Step, sql

SQUAWK = Path(sys.executable).with_name("squawk")
RULES = Path(__file__).with_name("squawk.toml")
POSTGRES = "15.0"
"""The oldest that Trellis runs on."""
Rules = Mapping[str, Mapping[str, str]]


def steps() -> list[Step]:
    """Every revision, up and down."""
    known = Revisions()
    return known.path(None, known.head) + known.path(known.head, None)


def rules() -> Rules:
    return tomllib.loads(RULES.read_text())


def left_out(step: Step, among: Rules) -> list[str]:
    """The rules that a step need not keep."""
    way = "up" if step.up else "down"
    return [rule for part in ("every", way, f"{way}-{step.revision}") for rule in among.get(part, {})]


def found(text: str, without: list[str]) -> list[str]:
    """A line for each place of the SQL that breaks a rule. Raises RuntimeError where squawk itself fails."""
    command = [str(SQUAWK), f"--pg-version={POSTGRES}", "--reporter=json"]
    command += [f"--exclude={','.join(without)}"] if without else []
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if ran.returncode not in {0, 1} or not ran.stdout.strip():
        raise RuntimeError(f"squawk ended with {ran.returncode}: {ran.stderr.strip()}")
    lines = text.splitlines()
    return [f"{one['rule_name']}: {lines[one['line']].strip()}" for one in json.loads(ran.stdout)]


def problems() -> Iterator[str]:
    """All that squawk says of all revisions."""
    among, every = rules(), steps()
    # Alembic writes one at a time: a process has one environment of it.
    texts = [sql(step, "postgresql") for step in every]
    yield from (
        f"{step}: cannot be written without a database, so squawk cannot look at it"
        for step, text in zip(every, texts, strict=True)
        if text is None
    )
    with ThreadPoolExecutor(2) as several:
        looked = several.map(found, [text or "" for text in texts], [left_out(step, among) for step in every])
        for step, lines in zip(every, looked, strict=True):
            yield from (f"{step} ({'up' if step.up else 'down'}): {line}" for line in lines)


def main() -> int:
    lines = list(problems())
    print("\n".join(lines), file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
