"""HubSpot's companies, deals, tickets and notes: v3 objects, v4 associations."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from app.integrations.base import Account
from app.integrations.wire import utc_text
from tests.support.fakes.hubspot import TOKEN, error
from tests.support.fakes.server import FakeVendor, Refused, answer, bearer, is_json

KNOWN = {
    "companies": {"name", "domain", "industry", "country", "lifecyclestage"},
    "deals": {
        "dealname",
        "dealstage",
        "amount",
        "deal_currency_code",
        "createdate",
        "closedate",
        "hs_is_closed",
        "hs_is_closed_won",
    },
    "tickets": {"subject", "content", "hs_ticket_priority", "createdate", "closed_date", "hs_pipeline_stage"},
    "notes": {"hs_timestamp", "hs_note_body"},
}


def stamp(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)


@dataclass
class FakeHubSpotContext(FakeVendor):
    """`objects` by kind and id; `associated` by company and kind."""

    most: int = 500
    objects: dict[str, dict[str, dict[str, str | None]]] = field(default_factory=lambda: {kind: {} for kind in KNOWN})
    associated: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/crm/v3/objects/companies/{id}", self.company),
            web.get("/crm/v4/objects/companies/{id}/associations/{kind}", self.associations),
            web.post("/crm/v3/objects/{kind}/batch/read", self.read),
        ]

    def add(self, account: Account) -> None:
        company = account.company
        self.objects["companies"][company.id] = {
            "name": company.name,
            "domain": company.domain,
            "industry": company.industry or None,
            "country": company.country or None,
            "lifecyclestage": company.stage,
        }
        for deal in account.deals:
            properties = {"dealname": deal.name, "dealstage": deal.stage, "amount": deal.amount}
            properties |= {"deal_currency_code": deal.currency, "hs_is_closed": str(deal.closed).lower()}
            times = {"createdate": stamp(deal.opened_at), "closedate": stamp(deal.closes_at)}
            self._put(company.id, "deals", deal.id, properties | times | {"hs_is_closed_won": str(deal.won).lower()})
        for ticket in account.tickets:
            said = {"subject": ticket.subject, "content": ticket.text, "hs_ticket_priority": ticket.priority.upper()}
            times = {"createdate": stamp(ticket.opened_at), "closed_date": stamp(ticket.closed_at)}
            self._put(company.id, "tickets", ticket.id, said | times | {"hs_pipeline_stage": "1"})
        for note in account.notes:
            body = f"<p>{note.text}</p>"
            self._put(company.id, "notes", note.id, {"hs_timestamp": stamp(note.at), "hs_note_body": body})

    def _put(self, company_id: str, kind: str, object_id: str, properties: dict[str, str | None]) -> None:
        self.objects[kind][object_id] = properties
        self.associated.setdefault((company_id, kind), []).append(object_id)

    def _check(self, request: web.Request) -> None:
        if bearer(request) != TOKEN:
            raise Refused(401, error("INVALID_AUTHENTICATION", "Authentication credentials not found."))

    def _shown(self, kind: str, object_id: str, names: Iterable[str]) -> dict[str, Any]:
        known = self.objects[kind][object_id]
        properties = {name: known.get(name) for name in names if name in KNOWN[kind]} | {"hs_object_id": object_id}
        return {"id": object_id, "properties": properties, "archived": False}

    async def company(self, request: web.Request) -> web.Response:
        self._check(request)
        if request.match_info["id"] not in self.objects["companies"]:
            raise Refused(404, error("OBJECT_NOT_FOUND", "resource not found"))
        names = request.query.get("properties", "").split(",")
        return answer(self._shown("companies", request.match_info["id"], names))

    async def associations(self, request: web.Request) -> web.Response:
        self._check(request)
        limit, after = int(request.query.get("limit", "500")), int(request.query.get("after", "0"))
        if not 1 <= limit <= 500:
            raise Refused(400, error("VALIDATION_ERROR", "limit must be at most 500"))
        ids = self.associated.get((request.match_info["id"], request.match_info["kind"]), [])
        limit = min(limit, self.most)
        label = {"category": "HUBSPOT_DEFINED", "typeId": 190, "label": None}
        shown = [{"toObjectId": int(one), "associationTypes": [label]} for one in ids[after : after + limit]]
        body: dict[str, Any] = {"results": shown}
        if len(ids) > after + limit:
            body["paging"] = {"next": {"after": str(after + limit), "link": "https://api.hubapi.com/x"}}
        return answer(body)

    async def read(self, request: web.Request) -> web.Response:
        self._check(request)
        if not is_json(request):
            raise Refused(415, error("UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json"))
        kind, body = request.match_info["kind"], orjson.loads(await request.read())
        if not 1 <= len(body["inputs"]) <= 100 or set(body["properties"]) - KNOWN[kind]:
            raise Refused(400, error("VALIDATION_ERROR", "inputs must hold 1 to 100 records of known properties"))
        found = [one["id"] for one in body["inputs"] if one["id"] in self.objects[kind]]
        results = [self._shown(kind, one, body["properties"]) for one in found]
        if len(found) == len(body["inputs"]):
            return answer({"status": "COMPLETE", "results": results})
        missing = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some objects"}
        return answer({"status": "COMPLETE", "results": results, "numErrors": 1, "errors": [missing]}, 207)
