"""Salesforce's REST API: client credentials, Leads by external id, Tasks, and the part of SOQL that is used."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from app.clock import Clock, system_clock
from tests.support.fakes.server import FakeVendor, Refused, answer, bearer, is_json

CLIENT_ID = "3MVG9consumerkey"
CLIENT_SECRET = "1955279925675241571secret"
LEAD_FIELDS = {"Email", "FirstName", "LastName", "Company", "Phone"}
TASK_FIELDS = {"WhoId", "Subject", "Description", "Status"}
API = "/services/data/v62.0"
REQUEST_LIMIT = [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]

_QUERY = re.compile(r"SELECT (?P<columns>[\w, ]+) FROM (?P<table>\w+) WHERE (?P<rest>.+)", re.DOTALL)
_CONDITION = re.compile(
    r"(?P<field>\w+) (?:(?P<null>!= null)|= '(?P<text>(?:[^'\\]|\\.)*)'|>= (?P<since>[\d:.TZ-]+))", re.DOTALL
)
_TAIL = re.compile(r"(?: ORDER BY (?P<order>\w+)(?: (?P<down>DESC))?(?:, Id)?)?(?: LIMIT (?P<limit>\d+))?")
_ESCAPES = {"n": "\n", "r": "\r"}


def fault(code: str, message: str, status: int = 400, fields: Iterable[str] = ()) -> Refused:
    return Refused(status, [{"message": message, "errorCode": code, "fields": list(fields)}])


def unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)


@dataclass
class FakeSalesforce(FakeVendor):
    clock: Clock = system_clock
    custom: frozenset[str] = frozenset({"Score__c"})
    page: int = 2000
    sessions: set[str] = field(default_factory=set)
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"Lead": {}, "Task": {}})
    cursors: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.post("/services/oauth2/token", self.token),
            web.patch(f"{API}/sobjects/Lead/Email/{{email}}", self.upsert),
            web.patch(f"{API}/sobjects/Lead/{{id}}", self.update),
            web.post(f"{API}/sobjects/{{table}}", self.create),
            web.get(f"{API}/query", self.query),
            web.get(f"{API}/query/{{cursor}}", self.more),
        ]

    @property
    def leads(self) -> dict[str, dict[str, Any]]:
        return self.tables["Lead"]

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return self.tables["Task"]

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (
            request.content_type != "application/x-www-form-urlencoded"
            or form.get("grant_type") != "client_credentials"
        ):
            raise Refused(400, {"error": "unsupported_grant_type", "error_description": "grant type not supported"})
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise Refused(400, {"error": "invalid_client", "error_description": "invalid client credentials"})
        session = f"00D5g!AQ{len(self.seen)}session"
        self.sessions.add(session)
        issued = {"issued_at": "1712345678901", "signature": "c2ln", "scope": "api", "token_type": "Bearer"}
        return answer({"access_token": session, "instance_url": self.url, "id": f"{self.url}/id/00D/005", **issued})

    async def _values(self, request: web.Request, known: set[str]) -> dict[str, Any]:
        self._check_session(request)
        if not is_json(request):
            raise fault("UNSUPPORTED_MEDIA_TYPE", "Content-Type must be application/json", 415)
        values: dict[str, Any] = orjson.loads(await request.read())
        for name in values.keys() - known:
            raise fault("INVALID_FIELD", f"No such column '{name}' on sobject", fields=[name])
        return values

    def _check_session(self, request: web.Request) -> None:
        if bearer(request) not in self.sessions:
            raise fault("INVALID_SESSION_ID", "Session expired or invalid", 401)

    def _insert(self, table: str, values: dict[str, Any]) -> str:
        prefix = {"Lead": "00Q5g00000", "Task": "00T5g00000"}[table]
        number = f"{prefix}{len(self.tables[table]):08d}"
        self.tables[table][number] = {"Id": number, **values}
        self._touch(self.tables[table][number])
        return number

    def _touch(self, row: dict[str, Any]) -> None:
        row["LastModifiedDate"] = self.clock().strftime("%Y-%m-%dT%H:%M:%S.000+0000")

    def _insert_lead(self, values: dict[str, Any]) -> str:
        missing = [name for name in ("LastName", "Company") if not values.get(name)]
        if missing:
            raise fault("REQUIRED_FIELD_MISSING", f"Required fields are missing: {missing}", fields=missing)
        return self._insert("Lead", values)

    async def upsert(self, request: web.Request) -> web.Response:
        values = await self._values(request, (LEAD_FIELDS | self.custom) - {"Email"})
        email = unquote(request.match_info["email"])
        if email.endswith(".inc"):
            raise fault("NOT_FOUND", "The requested resource does not exist", 404)
        matches = [row for row in self.leads.values() if row.get("Email", "").lower() == email.lower()]
        if len(matches) > 1:
            return answer([f"{API}/sobjects/Lead/{row['Id']}" for row in matches], 300)
        result = {"success": True, "errors": []}
        if not matches:
            return answer({"id": self._insert_lead({"Email": email, **values}), "created": True, **result}, 201)
        matches[0].update(values)
        self._touch(matches[0])
        return answer({"id": matches[0]["Id"], "created": False, **result})

    async def update(self, request: web.Request) -> web.Response:
        values = await self._values(request, LEAD_FIELDS | self.custom)
        row = self.leads.get(request.match_info["id"])
        if row is None:
            raise fault("NOT_FOUND", "Provided external ID field does not exist or is not accessible", 404)
        row.update(values)
        self._touch(row)
        return answer(None, 204)

    async def create(self, request: web.Request) -> web.Response:
        table = request.match_info["table"]
        values = await self._values(request, TASK_FIELDS if table == "Task" else LEAD_FIELDS | self.custom)
        if table == "Lead":
            number = self._insert_lead(values)
        elif values.get("WhoId") not in self.leads:
            raise fault("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=["WhoId"])
        else:
            number = self._insert(table, values)
        return answer({"id": number, "success": True, "errors": []}, 201)

    async def query(self, request: web.Request) -> web.Response:
        self._check_session(request)
        rows, columns, table = self._select(request.query["q"])
        kind = {"attributes": {"type": table, "url": f"{API}/sobjects/{table}"}}
        records = [kind | {name: row.get(name) for name in columns} for row in rows]
        return answer(self._paged(records, len(records)))

    async def more(self, request: web.Request) -> web.Response:
        self._check_session(request)
        records = self.cursors.get(request.match_info["cursor"])
        if records is None:
            raise fault("INVALID_QUERY_LOCATOR", "invalid query locator")
        return answer(self._paged(records, len(records)))

    def _paged(self, records: list[dict[str, Any]], total: int) -> dict[str, Any]:
        body: dict[str, Any] = {"totalSize": total, "done": len(records) <= self.page, "records": records[: self.page]}
        if not body["done"]:
            cursor = f"01g5g{len(self.cursors):010d}-{self.page}"
            self.cursors[cursor] = records[self.page :]
            body["nextRecordsUrl"] = f"{API}/query/{cursor}"
        return body

    def _select(self, soql: str) -> tuple[list[dict[str, Any]], list[str], str]:
        parsed = _QUERY.fullmatch(soql)
        if parsed is None or parsed["table"] not in self.tables:
            raise fault("MALFORMED_QUERY", f"unexpected token: {soql}")
        columns = parsed["columns"].split(", ")
        known = {"Lead": LEAD_FIELDS | self.custom, "Task": TASK_FIELDS}[parsed["table"]] | {"Id", "LastModifiedDate"}
        for name in set(columns) - known:
            raise fault("INVALID_FIELD", f"No such column '{name}'")
        rows, rest = list(self.tables[parsed["table"]].values()), " AND " + parsed["rest"]
        while rest.startswith(" AND "):
            condition = _CONDITION.match(rest, 5)
            if condition is None or condition["field"] not in known:
                raise fault("MALFORMED_QUERY", f"unexpected token: {rest}")
            rows, rest = [row for row in rows if self._holds(row, condition)], rest[condition.end() :]
        tail = _TAIL.fullmatch(rest)
        if tail is None:
            raise fault("MALFORMED_QUERY", f"unexpected token: {rest}")
        if tail["order"]:
            rows.sort(key=lambda row: (row[tail["order"]], row["Id"]), reverse=bool(tail["down"]))
        return rows[: int(tail["limit"] or len(rows))], columns, parsed["table"]

    def _holds(self, row: dict[str, Any], condition: re.Match[str]) -> bool:
        value = row.get(condition["field"])
        if condition["null"]:
            return value is not None
        if condition["text"] is not None:
            return str(value).lower() == unescape(condition["text"]).lower()
        return datetime.fromisoformat(str(value)) >= datetime.fromisoformat(condition["since"])
