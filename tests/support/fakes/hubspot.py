"""HubSpot's CRM v3: contacts in batches and by search, notes with associations."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from app.clock import Clock, system_clock
from app.integrations.wire import utc_text
from tests.support.fakes.server import FakeVendor, Refused, answer, bearer, is_json

TOKEN = "pat-fake-token-of-the-hubspot-fake"
CONTACT_PROPERTIES = {"email", "firstname", "lastname", "company", "phone", "lastmodifieddate", "hs_object_id"}
RATE_LIMIT = {
    "status": "error",
    "message": "You have reached your secondly limit.",
    "errorType": "RATE_LIMIT",
    "correlationId": "c033cdaa-2c40-4a64-ae48-b4cec88dad24",
    "policyName": "SECONDLY",
    "requestId": "3d3e35b7-0dae-4b9f-a6e3-9c230cbcf8dd",
}


def error(category: str, message: str, **more: Any) -> dict[str, Any]:
    return {"status": "error", "message": message, "correlationId": "c0ffee", "category": category, **more}


@dataclass
class FakeHubSpot(FakeVendor):
    clock: Clock = system_clock
    custom: frozenset[str] = frozenset({"trellis_score"})
    note_properties: frozenset[str] = frozenset({"hs_timestamp", "hs_note_body", "trellis_key"})
    window: int = 10_000
    contacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def routes(self) -> Iterable[web.RouteDef]:
        contacts, notes = "/crm/v3/objects/contacts", "/crm/v3/objects/notes"
        return [
            web.post(f"{contacts}/batch/upsert", self.upsert),
            web.post(f"{contacts}/batch/read", self.read),
            web.post(f"{contacts}/search", self.search),
            web.get(contacts, self.listing),
            web.get(f"{contacts}/{{id}}", self.contact),
            web.post(notes, self.add_note),
            web.get(f"{notes}/{{id}}", self.note),
        ]

    @property
    def known(self) -> set[str]:
        return CONTACT_PROPERTIES | self.custom

    def _body(self, request: web.Request, raw: bytes, allowed: set[str]) -> dict[str, Any]:
        if bearer(request) != TOKEN:
            raise Refused(401, error("INVALID_AUTHENTICATION", "Authentication credentials not found."))
        if request.method == "GET":
            return {}
        if not is_json(request):
            raise Refused(415, error("UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json"))
        body: dict[str, Any] = orjson.loads(raw)
        if unknown := body.keys() - allowed:
            raise Refused(400, error("VALIDATION_ERROR", f"Invalid input JSON on line 1: unknown field {unknown}"))
        return body

    def _check(self, values: dict[str, Any], known: Iterable[str]) -> None:
        for name, value in values.items():
            if name not in known:
                detail = f'Property values were not valid: [{{"message":"Property \\"{name}\\" does not exist"}}]'
                raise Refused(400, error("VALIDATION_ERROR", detail, errors=[{"code": "PROPERTY_DOESNT_EXIST"}]))
            if not isinstance(value, str):
                raise Refused(400, error("VALIDATION_ERROR", f"{name} must be a string"))

    async def upsert(self, request: web.Request) -> web.Response:
        inputs = self._body(request, await request.read(), {"inputs"})["inputs"]
        if not 1 <= len(inputs) <= 100:
            raise Refused(400, error("VALIDATION_ERROR", "inputs must hold 1 to 100 records"))
        return answer(self._batch([self._upsert(one) for one in inputs]))

    def _upsert(self, one: dict[str, Any]) -> dict[str, Any]:
        if one.keys() - {"id", "idProperty", "properties", "objectWriteTraceId"} or one.get("idProperty") != "email":
            raise Refused(400, error("VALIDATION_ERROR", "Unable to perform upsert by a non-unique property"))
        self._check(one["properties"], self.known - {"lastmodifieddate", "hs_object_id"})
        row = self.by_email(one["id"])
        new = row is None
        if row is None:
            number = str(101 + len(self.contacts))
            row = {"id": number, "properties": {"hs_object_id": number}, "createdAt": utc_text(self.clock())}
            self.contacts[number] = {**row, "archived": False}
            row = self.contacts[number]
        row["properties"] |= {"email": one["id"].lower(), **one["properties"]}
        row["updatedAt"] = row["properties"]["lastmodifieddate"] = utc_text(self.clock())
        return {**row, "new": new}

    def by_email(self, email: str) -> dict[str, Any] | None:
        rows = (row for row in self.contacts.values() if row["properties"].get("email") == email.lower())
        return next(rows, None)

    def _batch(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        now = utc_text(self.clock())
        return {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}

    def _shown(self, row: dict[str, Any], properties: Iterable[str]) -> dict[str, Any]:
        return {**row, "properties": {name: row["properties"].get(name) for name in properties if name in self.known}}

    async def read(self, request: web.Request) -> web.Response:
        body = self._body(
            request, await request.read(), {"inputs", "properties", "idProperty", "propertiesWithHistory"}
        )
        if body.get("idProperty") != "email":
            raise Refused(400, error("VALIDATION_ERROR", "this fake reads by email"))
        found = [(one["id"], self.by_email(one["id"])) for one in body["inputs"]]
        results = [self._shown(row, body["properties"]) for _, row in found if row is not None]
        if len(results) == len(found):
            return answer(self._batch(results))
        missing = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some CONTACT objects"}
        return answer({**self._batch(results), "numErrors": 1, "errors": [missing]}, 207)

    async def listing(self, request: web.Request) -> web.Response:
        self._body(request, b"", set())
        limit, after = int(request.query.get("limit", "10")), int(request.query.get("after", "0"))
        if not 1 <= limit <= 100:
            raise Refused(400, error("VALIDATION_ERROR", "limit must be at most 100"))
        rows = [row for row in sorted(self.contacts.values(), key=lambda row: int(row["id"])) if int(row["id"]) > after]
        shown = [self._shown(row, request.query.get("properties", "").split(",")) for row in rows[:limit]]
        body: dict[str, Any] = {"results": shown}
        if len(rows) > limit:
            body["paging"] = {"next": {"after": shown[-1]["id"], "link": "?after=" + shown[-1]["id"]}}
        return answer(body)

    async def search(self, request: web.Request) -> web.Response:
        allowed = {"filterGroups", "sorts", "properties", "limit", "after", "query"}
        body = self._body(request, await request.read(), allowed)
        limit, after = body.get("limit", 10), int(body.get("after", 0))
        if not 1 <= limit <= 200 or after + limit > self.window:
            raise Refused(400, error("VALIDATION_ERROR", f"paging beyond {self.window} results"))
        [group] = body["filterGroups"]
        rows = [row for row in self.contacts.values() if all(self._matches(row, one) for one in group["filters"])]
        [order] = body["sorts"]
        rows.sort(
            key=lambda row: int(row["properties"][order["propertyName"]]), reverse=order["direction"] != "ASCENDING"
        )
        page = rows[after : after + limit]
        found = {"total": len(rows), "results": [self._shown(row, body["properties"]) for row in page]}
        more = {"paging": {"next": {"after": str(after + limit)}}} if after + limit < len(rows) else {}
        return answer(found | more)

    def _matches(self, row: dict[str, Any], one: dict[str, Any]) -> bool:
        value = row["properties"].get(one["propertyName"])
        if one["propertyName"] == "lastmodifieddate":
            value = datetime.fromisoformat(value).timestamp() * 1000
        if one["operator"] == "GTE":
            return float(value) >= float(one["value"])
        if one["operator"] == "GT":
            return float(value) > float(one["value"])
        raise Refused(400, error("VALIDATION_ERROR", f"operator {one['operator']} is not supported by this fake"))

    async def contact(self, request: web.Request) -> web.Response:
        self._body(request, b"", set())
        if request.match_info["id"] not in self.contacts:
            raise Refused(404, error("OBJECT_NOT_FOUND", "resource not found"))
        return answer(self.contacts[request.match_info["id"]])

    async def add_note(self, request: web.Request) -> web.Response:
        body = self._body(request, await request.read(), {"properties", "associations"})
        self._check(body["properties"], self.note_properties)
        if not body["properties"].get("hs_timestamp"):
            raise Refused(400, error("VALIDATION_ERROR", "hs_timestamp is required"))
        for association in body["associations"]:
            self._check_association(association)
        key = body["properties"]["trellis_key"]
        if self.by_key(key) is not None:
            detail = "Property values were not valid: [{'error':'CONFLICTING_UNIQUE_VALUE'}]"
            raise Refused(400, error("VALIDATION_ERROR", detail))
        note = {"id": str(9001 + len(self.notes)), "properties": body["properties"], "archived": False}
        self.notes[note["id"]] = {**note, "contact": body["associations"][0]["to"]["id"]}
        return answer(note, 201)

    def _check_association(self, association: dict[str, Any]) -> None:
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}
        if association["types"] != [kind] or association["to"]["id"] not in self.contacts:
            raise Refused(400, error("VALIDATION_ERROR", "One or more associations are not valid"))

    def by_key(self, key: str) -> dict[str, Any] | None:
        return next((note for note in self.notes.values() if note["properties"].get("trellis_key") == key), None)

    async def note(self, request: web.Request) -> web.Response:
        self._body(request, b"", set())
        name = request.query.get("idProperty", "")
        if name not in self.note_properties:
            raise Refused(400, error("VALIDATION_ERROR", f"Unable to read objects by the property {name}"))
        note = self.by_key(request.match_info["id"])
        if note is None:
            raise Refused(404, error("OBJECT_NOT_FOUND", "resource not found"))
        return answer(note)
