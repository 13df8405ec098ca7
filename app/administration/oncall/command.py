"""Reads the alert, asks what is to be asked, all at once, and prints it with the page."""

import asyncio
import sys
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import aiohttp
import typer

from app.administration.oncall.alerts import Alert, by_name, read_alerts
from app.administration.oncall.away import Away
from app.administration.oncall.filling import variables
from app.administration.oncall.pages import Found, find_page
from app.administration.oncall.printing import Known, Printer, queries
from app.administration.oncall.prometheus import NOWHERE, Prometheus, Ran, Value, address
from app.administration.oncall.state import Switches, read_switches
from app.clock import system_clock
from app.console import out
from app.errors import ConfigError, InvalidInput
from app.settings import Settings, load_settings
from runbooks.pages import Page

Result = TypeVar("Result")


def oncall(
    alert: Annotated[
        str,
        typer.Argument(
            metavar="ALERT|FILE|-",
            help="An alert's name, a file with the message of Alertmanager's webhook, or - for standard input.",
        ),
    ],
) -> None:
    """Print an alert's page with its values of now, recent deploys, and flags with who changed them."""
    asked = given(alert)
    found = {name: find_page(name) for name in asked}
    now = system_clock()
    known = asyncio.run(gather([one.page for one in found.values() if one.page], now))
    show(Printer(out, now), asked, found, known)
    if all(one.page is None for one in found.values()):
        raise typer.Exit(1)


def given(alert: str) -> Mapping[str, Sequence[Alert]]:
    """Alerts by name, the most severe first. Raises InvalidInput."""
    if alert == "-":
        return by_name(read_alerts(sys.stdin.buffer.read()))
    file = Path(alert)
    if file.suffix != ".json" and not file.is_file():
        return {alert: ()}
    try:
        return by_name(read_alerts(file.read_bytes()))
    except OSError as error:
        raise InvalidInput(f"The file {alert} cannot be read ({error.strerror}).") from error


def show(printer: Printer, asked: Mapping[str, Sequence[Alert]], found: Mapping[str, Found], known: Known) -> None:
    """Alerts with their pages, after what holds for all of them."""
    printer.around(known)
    for name, alerts in asked.items():
        printer.alerts(alerts or [Alert(name)])
        page = found[name]
        if page.page is None:
            printer.why_not(page.why_not)
        else:
            printer.page(page.page, page.text, variables(alerts) if alerts else {}, known)


async def gather(pages: Sequence[Page], now: datetime) -> Known:
    """All that is asked beside the pages; what is away is a sentence. Takes as long as the slowest time-out."""
    try:
        settings = load_settings()
    except ConfigError as error:
        return Known(no_deploys=error.detail, no_switches=error.detail)
    measured, switches = await asyncio.gather(
        _measured(settings, queries(pages), now), _or_why(read_switches(settings))
    )
    if isinstance(switches, Switches):
        return Known(*measured, switches=switches)
    return Known(*measured, no_switches=switches)


async def _measured(
    settings: Settings, asked: Sequence[str], now: datetime
) -> tuple[Mapping[str, Sequence[Value] | str], Sequence[Ran], Sequence[Value], str]:
    """Values by query, versions, when processes began, and the sentence where Prometheus is not there."""
    url = address(settings)
    if url is None:
        return {}, (), (), NOWHERE
    async with aiohttp.ClientSession(trust_env=False) as session:
        prometheus = Prometheus(session, url)
        deploys = await _or_why(prometheus.deploys(now))
        if isinstance(deploys, str):
            # Its other answers would be the same sentence, each after a time-out.
            return {}, (), (), deploys
        started = await _or_why(prometheus.started())
        answers = await asyncio.gather(*(_or_why(prometheus.values(query)) for query in asked))
    return dict(zip(asked, answers, strict=True)), deploys, () if isinstance(started, str) else started, ""


async def _or_why(asked: Awaitable[Result]) -> Result | str:
    try:
        return await asked
    except Away as error:
        return error.detail
