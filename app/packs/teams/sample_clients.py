"""The clients that ship with the pack, with what the embedded CRM and host of code know of them."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from sqlalchemy.ext.asyncio import AsyncSession

from app.integrations.local_context import COMPANY, DEAL, NOTE, REPOSITORY, put_record
from app.pack import Kit
from app.packs.teams.client_schemas import ClientIn
from app.packs.teams.clients import ClientService
from app.packs.teams.models import SignalKind
from app.principal import Principal

FILE: Final = Path(__file__).with_name("sample") / "clients.yaml"
_ROW: Final = ("external_id", "name", "email", "crm_id", "repository")
_Record = tuple[str, str, str, datetime, dict[str, Any]]


class SampleClients:
    def __init__(self, kit: Kit, service: ClientService) -> None:
        self._db = kit.ports.db
        self._clock = kit.ports.clock
        self._service = service

    async def load(self, principal: Principal) -> int:
        """Puts the clients in and scores those that are new; the number of new things. A second time: 0."""
        sample, now = yaml.safe_load(FILE.read_text("utf-8")), self._clock()
        async with self._db.transaction(principal.tenant_id) as session:
            context = await self._put_context(session, principal.tenant_id, sample, now)
        clients = [_client(one, now) for one in sample["clients"]]
        report = await self._service.put(principal, clients)
        for client in clients if report.clients.new else ():
            await self._service.score(principal, client.external_id, sync=False)
        return report.clients.new + report.new_signals + context

    async def _put_context(
        self, session: AsyncSession, tenant_id: str, sample: Mapping[str, Any], now: datetime
    ) -> int:
        records = [*_accounts(sample["accounts"], now), *_repositories(sample["repositories"], now)]
        return sum([await put_record(session, tenant_id, *record) for record in records])


def _ago(now: datetime, days: float) -> datetime:
    return now - timedelta(days=days)


def _client(one: Mapping[str, Any], now: datetime) -> ClientIn:
    signals = [*_activity(one.get("weeks", ()), now), *_tickets(one.get("tickets", ()), now)]
    signals += [
        {
            "key": f"message-{said['days']}",
            "kind": SignalKind.MESSAGE,
            "at": _ago(now, said["days"]),
            "text": said["text"],
        }
        for said in one.get("messages", ())
    ]
    return ClientIn.model_validate({name: one[name] for name in _ROW if name in one} | {"signals": signals})


def _activity(weeks: Any, now: datetime) -> Iterator[dict[str, Any]]:
    for back, quantity in enumerate(reversed(weeks)):
        if quantity:
            at = _ago(now, 7 * back + 1)
            yield {"key": f"week-{back}", "kind": SignalKind.ACTIVITY, "at": at, "quantity": quantity}


def _tickets(tickets: Any, now: datetime) -> Iterator[dict[str, Any]]:
    for one in tickets:
        opened = {"key": f"{one['ref']}-opened", "kind": SignalKind.TICKET_OPENED, "at": _ago(now, one["opened"])}
        yield opened | {name: one[name] for name in ("ref", "priority", "text")}
        if "solved" in one:
            at = _ago(now, one["solved"])
            yield {"key": f"{one['ref']}-solved", "kind": SignalKind.TICKET_SOLVED, "at": at, "ref": one["ref"]}


def _accounts(accounts: Mapping[str, Any], now: datetime) -> Iterator[_Record]:
    for place, account in accounts.items():
        yield place, COMPANY, place, now, account["company"]
        for deal in account.get("deals", ()):
            yield place, DEAL, deal["key"], _ago(now, deal["days"]), _document(deal, "closes", "closes_at", now)
        for note in account.get("notes", ()):
            yield place, NOTE, note["key"], _ago(now, note["days"]), {"text": note["text"]}


def _repositories(repositories: Mapping[str, Any], now: datetime) -> Iterator[_Record]:
    for place, items in repositories.items():
        yield place, REPOSITORY, place, now, {}
        for item in items:
            yield place, item["kind"], item["key"], _ago(now, item["days"]), _document(item, "closed", "closed_at", now)


def _document(given: Mapping[str, Any], ended: str, name: str, now: datetime) -> dict[str, Any]:
    """The fields of a record, with the days of its end as a time."""
    known = {key: value for key, value in given.items() if key not in ("kind", "key", "days")}
    if isinstance(known.get(ended), int) and not isinstance(known[ended], bool):
        known[name] = _ago(now, known.pop(ended)).isoformat()
    return known
