"""What HubSpot has on a company, over its v3 objects and v4 associations, with the token of a private app.

Written from HubSpot's developer documentation: "CRM API | Companies", "Deals", "Tickets", "Notes" (properties by name,
times as ISO 8601), "Associations v4" (`GET /crm/v4/objects/{type}/{id}/associations/{toType}`: at most 500 a page,
`toObjectId`, `paging.next.after`), "Read a batch of objects" (at most 100, 207 where some are gone).

HubSpot numbers records as they are made: of more associations than are read whole, the highest ids are taken.
The app needs the scopes crm.objects.companies.read, crm.objects.deals.read, tickets and crm.objects.contacts.read.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp

from app.clock import Clock, system_clock
from app.errors import NotFound
from app.integrations.auth import FixedToken
from app.integrations.base import Account, AccountNote, Company, Deal, Ticket, checked_company
from app.integrations.hubspot import BASE_URL, next_page, read_refusal
from app.integrations.vendor_http import Call, Limits, Repeat, VendorAccount, VendorHttp, needed
from app.integrations.wire import MOST_TITLE, clipped, moment, moment_or_none, plain_text, read_rows

ASSOCIATIONS = 500
MOST_PAGES = 4
NEWEST = 100
_COMPANY = ("name", "domain", "industry", "country", "lifecyclestage")
_DEAL = (
    "dealname",
    "dealstage",
    "amount",
    "deal_currency_code",
    "createdate",
    "closedate",
    "hs_is_closed",
    "hs_is_closed_won",
)
_TICKET = ("subject", "content", "hs_ticket_priority", "createdate", "closed_date")
_NOTE = ("hs_timestamp", "hs_note_body")

T = TypeVar("T")


class HubSpotContext:
    """Args:
    token: the private app's access token.
    """

    name = "hubspot"

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: str,
        tenants: frozenset[str],
        *,
        base_url: str = BASE_URL,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        needed("HubSpot", hubspot_token=token)
        self._account = VendorAccount("HubSpot", tenants)
        self._http = VendorHttp(
            session, "HubSpot", base_url, FixedToken(token), read_refusal, limits=limits, clock=clock
        )

    async def account(self, tenant_id: str, company_id: str) -> Account:
        self._account.check(tenant_id)
        company = await self._company(checked_company(company_id))
        (deals, more_deals), (tickets, more_tickets), (notes, more_notes) = await asyncio.gather(
            self._related(company.id, "deals", _DEAL, _deal),
            self._related(company.id, "tickets", _TICKET, _ticket),
            self._related(company.id, "notes", _NOTE, _note),
        )
        return Account(
            company,
            tuple(sorted(deals, key=lambda deal: deal.opened_at, reverse=True)),
            tuple(sorted(tickets, key=lambda ticket: ticket.opened_at, reverse=True)),
            tuple(sorted(notes, key=lambda note: note.at, reverse=True)),
            more_deals or more_tickets or more_notes,
        )

    async def _company(self, company_id: str) -> Company:
        call = Call(
            "read the company",
            "GET",
            f"/crm/v3/objects/companies/{quote(company_id, safe='')}",
            Repeat.SAFE,
            {"properties": ",".join(_COMPANY)},
            accept=frozenset({404}),
            needs=("id", "properties"),
        )
        answer = await self._http.send(call)
        if not answer.ok:
            raise NotFound(f"There is no company '{company_id[:80]}' in HubSpot: check the client's 'crm_id'.")
        [company] = read_rows("HubSpot", "the company", [answer.body], _read_company)
        return company

    async def _related(
        self, company_id: str, kind: str, properties: tuple[str, ...], read: Callable[[Any], T | None]
    ) -> tuple[list[T], bool]:
        """The newest objects that belong to the company, and whether it has more."""
        ids, more = await self._associated(company_id, kind)
        newest = sorted(ids, reverse=True)[:NEWEST]
        if not newest:
            return [], more
        call = Call(
            f"read the company's {kind}",
            "POST",
            f"/crm/v3/objects/{kind}/batch/read",
            Repeat.SAFE,
            json={"properties": list(properties), "inputs": [{"id": str(one)} for one in newest]},
            needs=("results",),
        )
        rows = (await self._http.send(call)).body["results"]
        return read_rows("HubSpot", f"the company's {kind}", rows, read), more or len(ids) > NEWEST

    async def _associated(self, company_id: str, kind: str) -> tuple[set[int], bool]:
        path = f"/crm/v4/objects/companies/{quote(company_id, safe='')}/associations/{kind}"
        params, ids = {"limit": str(ASSOCIATIONS)}, set[int]()
        for _ in range(MOST_PAGES):
            call = Call(f"list the company's {kind}", "GET", path, Repeat.SAFE, params, needs=("results",))
            body = (await self._http.send(call)).body
            ids |= set(read_rows("HubSpot", f"the company's {kind}", body["results"], _associated_id))
            after = next_page(body)
            if after is None:
                return ids, False
            params = {**params, "after": after}
        return ids, True


def _associated_id(row: Any) -> int:
    return int(row["toObjectId"])


def _known(row: Any) -> dict[str, str]:
    """The properties as texts; HubSpot gives null for what is not set."""
    return {name: str(value or "") for name, value in row["properties"].items()}


def _read_company(row: Any) -> Company:
    values = _known(row)
    name, domain, industry, country, stage = (clipped(values.get(field), MOST_TITLE) for field in _COMPANY)
    return Company(str(row["id"]), name, domain, industry, country, stage)


def _deal(row: Any) -> Deal:
    values = _known(row)
    return Deal(
        id=str(row["id"]),
        name=clipped(values["dealname"], MOST_TITLE),
        stage=values["dealstage"],
        opened_at=moment(values["createdate"]),
        amount=values["amount"],
        currency=values.get("deal_currency_code", ""),
        closes_at=moment_or_none(values["closedate"]),
        closed=values.get("hs_is_closed") == "true",
        won=values.get("hs_is_closed_won") == "true",
    )


def _ticket(row: Any) -> Ticket:
    values = _known(row)
    return Ticket(
        id=str(row["id"]),
        subject=clipped(values["subject"], MOST_TITLE),
        opened_at=moment(values["createdate"]),
        closed_at=moment_or_none(values["closed_date"]),
        priority=values["hs_ticket_priority"].lower(),
        text=plain_text(values["content"]),
    )


def _note(row: Any) -> AccountNote | None:
    values = _known(row)
    text = plain_text(values["hs_note_body"])
    return AccountNote(str(row["id"]), moment(values["hs_timestamp"]), text) if text else None
