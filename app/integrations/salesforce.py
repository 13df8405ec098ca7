"""Salesforce over its REST API: people are Leads, notes are completed Tasks on them.

Written from Salesforce's documentation: "OAuth 2.0 Client Credentials Flow for Server-to-Server Integration",
REST API Developer Guide "Upsert Records Using sObject Rows by External ID" (200, 201, and 300 for more than one
match; 404 for an address whose top-level domain looks like a file extension), "Create a Record", "Update a Record",
"Execute a SOQL Query" (`done`, `nextRecordsUrl`), "Status Codes and Error Responses" (401 INVALID_SESSION_ID, 403
REQUEST_LIMIT_EXCEEDED), Object Reference "Lead" (LastName and Company are required, Email is an idLookup field) and
"Task" (a combobox Subject of 255 characters).

Activities carry no external id, so a note is known again by its subject, which ends in a hash of the key.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import aiohttp

from app.clock import Clock, system_clock
from app.errors import ConfigError, InvalidInput, NotFound
from app.integrations.auth import FetchedToken, FixedToken, Grant
from app.integrations.base import Contact, ContactRecord, ContactRef, checked_key, normal_email
from app.integrations.errors import IntegrationError
from app.integrations.vendor_http import (
    Answer,
    Call,
    Limits,
    Refusal,
    Repeat,
    VendorAccount,
    VendorHttp,
    base_address,
    needed,
)
from app.integrations.wire import first_and_last, full_name, utc_text

API = "/services/data/v62.0"
NOT_PROVIDED = "[not provided]"  # what Salesforce's own web-to-lead writes into a required field
NOTE_LIMIT = 32_000
_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LIMIT_CODES = frozenset({"REQUEST_LIMIT_EXCEEDED", "TXN_SECURITY_METERING_ERROR"})
_STANDARD = ("Id", "Email", "FirstName", "LastName", "Company", "Phone", "LastModifiedDate")


def read_refusal(answer: Answer) -> Refusal:
    """`[{message, errorCode, fields}]` from the API, `{error, error_description}` from the token endpoint."""
    body = answer.body
    if isinstance(body, dict):
        return Refusal(" ".join(str(body[name]) for name in ("error", "error_description") if name in body))
    first = body[0] if isinstance(body, list) and body and isinstance(body[0], dict) else {}
    code = str(first.get("errorCode", ""))
    words = " ".join(text for text in (code, str(first.get("message", ""))) if text)
    return Refusal(words, code in _LIMIT_CODES, 60.0 if code in _LIMIT_CODES else None)


def soql_text(value: str) -> str:
    """A quoted SOQL string: backslash and quote are escaped, nothing else ends it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def _checked_fields(fields: Mapping[str, str]) -> dict[str, str]:
    for name in fields.values():
        if not _FIELD.fullmatch(name):
            raise ConfigError(f"'{name[:80]}' is not an API field name of Salesforce's Lead, such as Score__c.")
    return dict(fields)


class SalesforceCrm:
    """Args:
    instance_url: the org's My Domain address.
    client_id, client_secret: of an external client app with the client credentials flow and a run-as user.
    fields: our property name to the Lead's API field name; properties without one stay here.
    """

    name = "salesforce"
    idempotent = True

    def __init__(
        self,
        session: aiohttp.ClientSession,
        instance_url: str,
        client_id: str,
        client_secret: str,
        tenants: frozenset[str],
        *,
        fields: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        needed(
            "Salesforce",
            salesforce_instance_url=instance_url,
            salesforce_client_id=client_id,
            salesforce_client_secret=client_secret,
        )
        self._account = VendorAccount("Salesforce", tenants)
        self._instance_url = base_address("Salesforce", instance_url)
        self._fields = _checked_fields(fields or {})
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        secrets = (client_secret,)
        self._login = VendorHttp(
            session,
            "Salesforce",
            instance_url,
            FixedToken(""),
            read_refusal,
            secrets=secrets,
            limits=limits,
            clock=clock,
        )
        auth = FetchedToken(self._fetch_token, clock)
        self._http = VendorHttp(
            session, "Salesforce", instance_url, auth, read_refusal, secrets=secrets, limits=limits, clock=clock
        )

    async def _fetch_token(self) -> Grant:
        call = Call(
            "log in",
            "POST",
            "/services/oauth2/token",
            Repeat.SAFE,
            form=self._form,
            needs=("access_token", "instance_url"),
        )
        body = (await self._login.send(call)).body
        return Grant(body["access_token"], base_address("Salesforce", body["instance_url"]))

    async def upsert_contact(self, tenant_id: str, contact: Contact, *, key: str) -> ContactRef:
        self._account.check(tenant_id)
        checked_key(key)
        email, known = normal_email(contact.email), self._known(contact)
        whole = "LastName" in known and "Company" in known
        saved = await self._upsert(email, known) if whole else None
        return saved or await self._look_and_save(tenant_id, email, known)

    async def _look_and_save(self, tenant_id: str, email: str, known: dict[str, str]) -> ContactRef:
        """In two steps, so that a placeholder in a required field never overwrites what somebody typed in."""
        record = await self.find_contact(tenant_id, email)
        if record is None:
            last = known.get("LastName") or known.pop("FirstName", NOT_PROVIDED)
            return await self._create({"Company": NOT_PROVIDED} | known | {"LastName": last, "Email": email})
        if record.name and "LastName" not in known:
            known.pop("FirstName", None)
        call = Call("update the lead", "PATCH", f"{API}/sobjects/Lead/{record.id}", Repeat.SAFE, json=known)
        if known:
            await self._http.send(call)
        return self._ref(record.id)

    def _known(self, contact: Contact) -> dict[str, str]:
        first, last = first_and_last(contact.name)
        known = {"FirstName": first, "LastName": last, "Company": contact.company, "Phone": contact.phone}
        mapped = {self._fields[name]: value for name, value in contact.properties.items() if name in self._fields}
        return {name: value for name, value in (known | mapped).items() if value}

    async def _upsert(self, email: str, values: Mapping[str, str]) -> ContactRef | None:
        """None where the address cannot stand in a path of Salesforce's."""
        path = f"{API}/sobjects/Lead/Email/{quote(email, safe='')}"
        call = Call(
            "save the lead", "PATCH", path, Repeat.SAFE, json=values, accept=frozenset({300, 404}), needs=("id",)
        )
        answer = await self._http.send(call)
        if answer.status == 300:
            raise IntegrationError(
                "Salesforce has more than one lead with this e-mail address: merge them there.", retryable=False
            )
        return self._ref(str(answer.body["id"])) if answer.ok else None

    async def _create(self, values: Mapping[str, str]) -> ContactRef:
        call = Call("save the lead", "POST", f"{API}/sobjects/Lead", Repeat.BY_KEY, json=values, needs=("id",))
        return self._ref(str((await self._http.send(call)).body["id"]))

    def _ref(self, lead_id: str) -> ContactRef:
        return ContactRef(lead_id, f"{self._instance_url}/lightning/r/Lead/{lead_id}/view")

    async def add_note(self, tenant_id: str, ref: ContactRef, text: str, *, key: str) -> str:
        self._account.check(tenant_id)
        if not _ID.fullmatch(ref.id):
            raise NotFound(f"There is no lead '{ref.id[:80]}' in Salesforce.")
        if not 1 <= len(text.strip()) <= NOTE_LIMIT:
            raise InvalidInput(f"A note's text must have 1 to {NOTE_LIMIT} characters.")
        subject = f"Trellis note {hashlib.sha256(f'{tenant_id}:{checked_key(key)}'.encode()).hexdigest()[:32]}"
        where = f"WhoId = {soql_text(ref.id)} AND Subject = {soql_text(subject)}"
        soql = f"SELECT Id FROM Task WHERE {where}"  # noqa: S608 - values by soql_text
        written = [row async for row in self._query("look for the note", soql)]
        return str(written[0]["Id"]) if written else await self._create_note(ref, subject, text)

    async def _create_note(self, ref: ContactRef, subject: str, text: str) -> str:
        task = {"WhoId": ref.id, "Subject": subject, "Description": text, "Status": "Completed"}
        call = Call(
            "add the note",
            "POST",
            f"{API}/sobjects/Task",
            Repeat.BY_KEY,
            json=task,
            accept=frozenset({400, 404}),
            needs=("id",),
        )
        answer = await self._http.send(call)
        if answer.ok:
            return str(answer.body["id"])
        if any(code in read_refusal(answer).words for code in ("INVALID_CROSS_REFERENCE_KEY", "ENTITY_IS_DELETED")):
            raise NotFound(f"There is no lead '{ref.id[:80]}' in Salesforce.")
        raise self._http.refused(call, answer)

    async def find_contact(self, tenant_id: str, email: str) -> ContactRecord | None:
        self._account.check(tenant_id)
        where = f"Email = {soql_text(normal_email(email))} ORDER BY LastModifiedDate DESC LIMIT 1"
        soql = f"SELECT {self._columns} FROM Lead WHERE {where}"  # noqa: S608 - values by soql_text
        async for row in self._query("find the lead", soql):
            return self._record(row)
        return None

    async def contacts(self, tenant_id: str, updated_after: datetime | None = None) -> AsyncIterator[ContactRecord]:
        self._account.check(tenant_id)
        since = f" AND LastModifiedDate >= {utc_text(updated_after)}" if updated_after is not None else ""
        where = f"Email != null{since} ORDER BY LastModifiedDate, Id"
        soql = f"SELECT {self._columns} FROM Lead WHERE {where}"  # noqa: S608 - values by soql_text
        async for row in self._query("list the leads", soql):
            yield self._record(row)

    @property
    def _columns(self) -> str:
        return ", ".join((*_STANDARD, *self._fields.values()))

    async def _query(self, operation: str, soql: str) -> AsyncIterator[dict[str, Any]]:
        call = Call(operation, "GET", f"{API}/query", Repeat.SAFE, {"q": soql}, needs=("records", "done"))
        while True:
            body = (await self._http.send(call)).body
            for row in body["records"]:
                yield row
            if body["done"]:
                return
            following = str(body["nextRecordsUrl"])
            if not following.startswith("/services/data/"):
                raise IntegrationError("Salesforce named a next page outside its API: not followed.", retryable=False)
            call = Call(operation, "GET", following, Repeat.SAFE, needs=("records", "done"))

    def _record(self, row: dict[str, Any]) -> ContactRecord:
        def text(name: str) -> str:
            value = str(row.get(name) or "")
            return "" if value == NOT_PROVIDED else value

        return ContactRecord(
            id=str(row["Id"]),
            email=text("Email"),
            name=full_name(text("FirstName"), text("LastName")),
            company=text("Company"),
            phone=text("Phone"),
            properties={ours: text(theirs) for ours, theirs in self._fields.items() if text(theirs)},
            updated_at=datetime.fromisoformat(row["LastModifiedDate"]),
        )
