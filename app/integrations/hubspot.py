"""HubSpot CRM over its v3 object API, with the token of a private app.

Written from HubSpot's developer documentation: "CRM API | Contacts" and "Upsert a batch of contacts" (email as
`idProperty`), "Activities | Notes" (association type 202, note to contact), "Search the CRM" (`paging.next.after`,
at most 200 a page and 10,000 a search), "API usage guidelines and limits" (429 with `policyName`), "Properties"
(`hasUniqueValue`).

The account needs, beside the app's scopes for contacts, one note property of the type single-line text with unique
values: `trellis_key`. It is what makes a note that is written twice one note.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from app.clock import Clock, system_clock
from app.errors import InvalidInput, NotFound
from app.integrations.auth import FixedToken
from app.integrations.base import Contact, ContactRecord, ContactRef, checked_key, normal_email
from app.integrations.errors import IntegrationError
from app.integrations.vendor_http import Answer, Call, Limits, Refusal, Repeat, VendorAccount, VendorHttp, needed
from app.integrations.wire import first_and_last, full_name, utc_text

BASE_URL = "https://api.hubapi.com"
KEY_PROPERTY = "trellis_key"
NOTE_TO_CONTACT = 202
NOTE_LIMIT = 65_536
PAGE = 100
SEARCH_WINDOW = 10_000
_SECONDS = {"SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0, "DAILY": 3600.0}
_STANDARD = ("email", "firstname", "lastname", "company", "phone", "lastmodifieddate")


def read_refusal(answer: Answer) -> Refusal:
    """`{status, message, category | errorType, policyName, correlationId}`."""
    body = answer.body if isinstance(answer.body, dict) else {}
    policy = str(body.get("policyName", ""))
    limited = answer.status == 429 or body.get("errorType") == "RATE_LIMIT"
    words = " ".join(text for text in (str(body.get("message", "")), policy) if text)
    return Refusal(words, limited, _SECONDS.get(policy) if limited else None)


class HubSpotCrm:
    """Args:
    token: the private app's access token.
    fields: our property name to HubSpot's property name; properties without one stay here.
    """

    name = "hubspot"
    idempotent = True

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: str,
        tenants: frozenset[str],
        *,
        fields: Mapping[str, str] | None = None,
        base_url: str = BASE_URL,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        needed("HubSpot", hubspot_token=token)
        self._account = VendorAccount("HubSpot", tenants)
        self._fields = dict(fields or {})
        self._clock = clock
        self._http = VendorHttp(
            session, "HubSpot", base_url, FixedToken(token), read_refusal, limits=limits, clock=clock
        )

    @property
    def _columns(self) -> list[str]:
        return [*_STANDARD, *self._fields.values()]

    async def upsert_contact(self, tenant_id: str, contact: Contact, *, key: str) -> ContactRef:
        self._account.check(tenant_id)
        checked_key(key)
        email = normal_email(contact.email)
        first, last = first_and_last(contact.name)
        known = {
            "email": email,
            "firstname": first,
            "lastname": last,
            "company": contact.company,
            "phone": contact.phone,
        }
        mapped = {self._fields[name]: value for name, value in contact.properties.items() if name in self._fields}
        properties = {name: value for name, value in (known | mapped).items() if value}
        call = Call(
            "save the contact",
            "POST",
            "/crm/v3/objects/contacts/batch/upsert",
            Repeat.SAFE,
            json={"inputs": [{"idProperty": "email", "id": email, "properties": properties}]},
            needs=("results",),
        )
        row = self._only_result(await self._http.send(call), call)
        return ContactRef(str(row["id"]), row.get("url"))

    def _only_result(self, answer: Answer, call: Call) -> dict[str, Any]:
        """The row of a batch of one; a failed one is a 207 with `errors` and no results."""
        results: list[dict[str, Any]] = answer.body["results"]
        if len(results) != 1:
            errors = answer.body.get("errors") or [{}]
            words = self._http.clean(str(errors[0].get("message", "no reason given")), answer)
            raise IntegrationError(f"HubSpot refused to {call.operation}: {words}.", retryable=False)
        return results[0]

    async def add_note(self, tenant_id: str, ref: ContactRef, text: str, *, key: str) -> str:
        self._account.check(tenant_id)
        checked_key(key)
        if not 1 <= len(text.strip()) <= NOTE_LIMIT:
            raise InvalidInput(f"A note's text must have 1 to {NOTE_LIMIT} characters.")
        call = self._note_call(ref, text, key)
        answer = await self._http.send(call)
        if answer.ok:
            return str(answer.body["id"])
        # A key that was used and a contact that is not there are both refusals: looking tells which one it was.
        existing = await self._found(f"/crm/v3/objects/notes/{quote(key, safe='')}", {"idProperty": KEY_PROPERTY})
        if existing is not None:
            return existing
        if await self._found(f"/crm/v3/objects/contacts/{quote(ref.id, safe='')}", {}) is None:
            raise NotFound(f"There is no contact '{ref.id[:80]}' in HubSpot.")
        raise self._http.refused(call, answer, f"its notes need the unique text property '{KEY_PROPERTY}'")

    def _note_call(self, ref: ContactRef, text: str, key: str) -> Call:
        properties = {"hs_timestamp": utc_text(self._clock()), "hs_note_body": text, KEY_PROPERTY: key}
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": NOTE_TO_CONTACT}
        return Call(
            "add the note",
            "POST",
            "/crm/v3/objects/notes",
            Repeat.SAFE,
            json={"properties": properties, "associations": [{"to": {"id": ref.id}, "types": [kind]}]},
            accept=frozenset({400, 404, 409}),
            needs=("id",),
        )

    async def _found(self, path: str, params: Mapping[str, str]) -> str | None:
        call = Call("look it up", "GET", path, Repeat.SAFE, params, accept=frozenset({400, 404}), needs=("id",))
        answer = await self._http.send(call)
        return str(answer.body["id"]) if answer.ok else None

    async def find_contact(self, tenant_id: str, email: str) -> ContactRecord | None:
        self._account.check(tenant_id)
        # By batch, so that the address travels in the body and not in a URL that others log.
        inputs = {"idProperty": "email", "inputs": [{"id": normal_email(email)}], "properties": self._columns}
        call = Call(
            "find the contact",
            "POST",
            "/crm/v3/objects/contacts/batch/read",
            Repeat.SAFE,
            json=inputs,
            needs=("results",),
        )
        results = (await self._http.send(call)).body["results"]
        return self._record(results[0]) if results else None

    async def contacts(self, tenant_id: str, updated_after: datetime | None = None) -> AsyncIterator[ContactRecord]:
        self._account.check(tenant_id)
        pages = self._listed() if updated_after is None else self._changed(updated_after)
        async for row in pages:
            if row["properties"].get("email"):
                yield self._record(row)

    async def _listed(self) -> AsyncIterator[dict[str, Any]]:
        params = {"limit": str(PAGE), "properties": ",".join(self._columns)}
        while True:
            call = Call("list the contacts", "GET", "/crm/v3/objects/contacts", Repeat.SAFE, params, needs=("results",))
            body = (await self._http.send(call)).body
            for row in body["results"]:
                yield row
            if (after := next_page(body)) is None:
                return
            params = {**params, "after": after}

    async def _changed(self, since: datetime) -> AsyncIterator[dict[str, Any]]:
        """By record id, so that a new search can begin where the vendor's window of 10,000 ends."""
        last_id, after = "0", "0"
        while True:
            body = (await self._http.send(self._search(since, last_id, after))).body
            for row in body["results"]:
                yield row
            following = next_page(body)
            if following is None:
                return
            after = following
            if int(after) + PAGE > SEARCH_WINDOW:
                last_id, after = str(body["results"][-1]["id"]), "0"

    def _search(self, since: datetime, last_id: str, after: str) -> Call:
        changed = {"propertyName": "lastmodifieddate", "operator": "GTE", "value": str(int(since.timestamp() * 1000))}
        beyond = {"propertyName": "hs_object_id", "operator": "GT", "value": last_id}
        query = {
            "filterGroups": [{"filters": [changed, beyond]}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": self._columns,
            "limit": PAGE,
            "after": after,
        }
        return Call(
            "search the contacts",
            "POST",
            "/crm/v3/objects/contacts/search",
            Repeat.SAFE,
            json=query,
            needs=("results",),
        )

    def _record(self, row: dict[str, Any]) -> ContactRecord:
        values = {name: value or "" for name, value in row["properties"].items()}
        return ContactRecord(
            id=str(row["id"]),
            email=values.get("email", ""),
            name=full_name(values.get("firstname", ""), values.get("lastname", "")),
            company=values.get("company", ""),
            phone=values.get("phone", ""),
            properties={ours: values[theirs] for ours, theirs in self._fields.items() if values.get(theirs)},
            updated_at=datetime.fromisoformat(row["updatedAt"]),
        )


def next_page(body: dict[str, Any]) -> str | None:
    after = body.get("paging", {}).get("next", {}).get("after")
    return None if after is None else str(after)
