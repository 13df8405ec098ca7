"""`make drill RUNBOOK=name`, `ALL=1`, `CI=1`; or `python -m runbooks.drill NAME | --all | --ci | --list`.

Exit code 0: every rehearsal recovered (or was skipped for want of a component), 1: one failed, 2: could not begin.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from difflib import get_close_matches

from app.process import cancelled_by
from runbooks.drill.rehearsal import Rehearsal
from runbooks.drill.rehearsals import REHEARSALS
from runbooks.drill.run import PAGES, drill
from runbooks.drill.table import Drilled, Outcome, table
from runbooks.pages import PageError, read_page


class UnknownPageError(Exception):
    """A name that no rehearsal has."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("name", nargs="*", help="a page that has a rehearsal: flags, or procedures/flags")
    parser.add_argument("--all", action="store_true", help="every rehearsal")
    parser.add_argument("--ci", action="store_true", help="the rollbacks that CI rehearses")
    parser.add_argument("--list", action="store_true", help="what can be rehearsed, and when it last was")
    parser.add_argument("--no-stamp", action="store_true", help="leave the pages as they are")
    asked = parser.parse_args(argv)
    try:
        if asked.list:
            print(listing())
            return 0
        chosen = choose(asked.name, every=asked.all, ci=asked.ci)
    except (UnknownPageError, PageError) as error:
        print(error, file=sys.stderr)
        return 2
    if not chosen:
        print("Say which page: make drill RUNBOOK=<name>, ALL=1 or CI=1. They are:\n" + listing(), file=sys.stderr)
        return 2
    results: list[Drilled] = []
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(until_told(chosen, results, stamp=not asked.no_stamp))
    print(table(results))
    if len(results) < len(chosen):
        print("Interrupted: what was started is ended.", file=sys.stderr)
        return 130
    return int(any(result.outcome is Outcome.FAILED for result in results))


def choose(names: Sequence[str], *, every: bool, ci: bool) -> list[Rehearsal]:
    """Raises UnknownPageError with the nearest names."""
    if every:
        return list(REHEARSALS)
    if ci:
        return [rehearsal for rehearsal in REHEARSALS if rehearsal.ci]
    return [named(name) for name in names]


def named(name: str) -> Rehearsal:
    """By the page's name, with or without its folder. Raises UnknownPageError."""
    known = {each: rehearsal for rehearsal in REHEARSALS for each in (rehearsal.page, rehearsal.name)}
    if name in known:
        return known[name]
    if any((PAGES / folder / f"{name}.md").exists() for folder in ("", "alerts", "procedures")):
        raise UnknownPageError(f"The page {name} has no rehearsal; `make drill` without a name lists those that have.")
    near = list(dict.fromkeys(known[each].name for each in get_close_matches(name, known, n=3, cutoff=0.4)))
    hint = f"Did you mean {' or '.join(near)}?" if near else "`make drill` without a name lists them."
    raise UnknownPageError(f"There is no runbook {name}. {hint}")


def listing() -> str:
    """Each rehearsal's page, what must fire, what it needs, and when it was last drilled."""
    lines = []
    for each in REHEARSALS:
        page = read_page(PAGES / f"{each.page}.md")
        facts = [each.alert or "first block of Verify", ", ".join(each.needs) or "nothing", page.last_drilled]
        lines.append(f"{each.name:24} {'ci' if each.ci else '  '}  {facts[0]:24} needs {facts[1]}; last: {facts[2]}")
    return "\n".join(lines)


async def until_told(chosen: Sequence[Rehearsal], results: list[Drilled], *, stamp: bool) -> None:
    with cancelled_by(signal.SIGINT, signal.SIGTERM):
        await rehearse(chosen, results, stamp=stamp)


async def rehearse(chosen: Sequence[Rehearsal], results: list[Drilled], *, stamp: bool) -> None:
    """Adds each result as it comes: an interruption leaves those before it."""
    for rehearsal in chosen:
        began = time.monotonic()

        def tell(line: str, began: float = began) -> None:
            print(f"  {time.monotonic() - began:5.1f} s  {line}", flush=True)

        print(f"{rehearsal.page}", flush=True)
        result = await drill(rehearsal, tell, stamp=stamp)
        if result.outcome is not Outcome.RECOVERED:
            print(f"  {result.outcome}: {result.why}", flush=True)
        results.append(result)


if __name__ == "__main__":
    sys.exit(main())
