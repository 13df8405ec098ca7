"""Google Calendar with a service account.

Written from Google's documentation: "Using OAuth 2.0 for Server to Server Applications" (RS256 assertion, grant type
jwt-bearer, `sub` for domain-wide delegation), Calendar API "Freebusy: query", "Events: insert" (client-given `id` of
5 to 1024 characters of base32hex, `sendUpdates`), "Events: delete", "Handle API errors" (403 rateLimitExceeded and
userRateLimitExceeded, 409 duplicate, 410 deleted, 429).

The event's id is made from the key, so that a second insert is refused as a duplicate and the first one is fetched.
Calendar itself takes overlapping events: free time is looked up before each insert, and this process inserts one
event at a time. Two replicas, or a person, may still take the same minutes within that one look-up.
"""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
import orjson

from app.clock import Clock, system_clock
from app.errors import ConfigError, NotFound
from app.integrations.auth import FetchedToken, FixedToken, Grant
from app.integrations.base import Booking, Slot, checked_key, normal_email
from app.integrations.errors import IntegrationError, KeyReused, SlotTaken
from app.integrations.hours import BusinessHours, check_search, free_slots
from app.integrations.vendor_http import (
    Answer,
    Call,
    Limits,
    Refusal,
    Repeat,
    VendorAccount,
    VendorHttp,
    needed,
)
from app.integrations.wire import utc_text

BASE_URL = "https://www.googleapis.com/calendar/v3"
SCOPE = "https://www.googleapis.com/auth/calendar"
_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIMIT_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"})
_EVENT = ("id", "start", "end")
_TELL_ALL = {"sendUpdates": "all"}
_ASSERTION_LIFE = timedelta(minutes=30)


def read_refusal(answer: Answer) -> Refusal:
    """`{error: {code, message, errors: [{domain, reason}]}}`, or the token endpoint's `{error, error_description}`."""
    body = answer.body if isinstance(answer.body, dict) else {}
    error = body.get("error")
    if not isinstance(error, dict):
        return Refusal(" ".join(str(body[name]) for name in ("error", "error_description") if name in body))
    reason = str((error.get("errors") or [{}])[0].get("reason", ""))
    words = " ".join(text for text in (reason, str(error.get("message", ""))) if text)
    return Refusal(words, reason in _LIMIT_REASONS)


def event_id(tenant_id: str, key: str) -> str:
    """52 characters of base32hex in lower case, without padding: the SHA-256 of tenant and key."""
    digest = hashlib.sha256(f"{tenant_id}:{key}".encode()).digest()
    return base64.b32hexencode(digest).decode().rstrip("=").lower()


class ServiceAccount:
    """A service account's key file. Raises ConfigError where it is not one."""

    def __init__(self, key_file: str, subject: str | None = None) -> None:
        try:
            values = orjson.loads(key_file)
            self.email: str = values["client_email"]
            self.token_uri: str = values["token_uri"]
            self._key_id: str = values["private_key_id"]
            self._key = jwt.get_algorithm_by_name("RS256").prepare_key(values["private_key"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, jwt.InvalidKeyError) as error:
            raise ConfigError(
                "Google Calendar's TRELLIS_GOOGLE_SERVICE_ACCOUNT_FILE is not a service account's JSON key: "
                "download a new one."
            ) from error
        self._subject = subject

    @property
    def delegated(self) -> bool:
        """Whether the account acts for a user."""
        return self._subject is not None

    def assertion(self, now: datetime) -> str:
        claims = {
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTION_LIFE).timestamp()),
        }
        if self._subject is not None:
            claims["sub"] = self._subject
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})


class GoogleCalendar:
    """Args:
    key_file: the text of the service account's JSON key.
    calendar_id: the calendar that appointments go into, shared with the account for writing.
    subject: the user that the account acts for (domain-wide delegation). Google lets an account invite people only
        so: without it the attendee stands in the description, and no invitation goes out.
    """

    name = "google"
    idempotent = True

    def __init__(
        self,
        session: aiohttp.ClientSession,
        key_file: str,
        calendar_id: str,
        tenants: frozenset[str],
        *,
        subject: str | None = None,
        hours: BusinessHours | None = None,
        base_url: str = BASE_URL,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        needed("Google Calendar", google_service_account_file=key_file, google_calendar_id=calendar_id)
        self._account = VendorAccount("Google Calendar", tenants)
        self._calendar_id = calendar_id
        self._hours = hours or BusinessHours()
        self._clock = clock
        self._inserting = asyncio.Lock()
        self._service = ServiceAccount(key_file, subject)
        self._login = VendorHttp(
            session, "Google", self._service.token_uri, FixedToken(""), read_refusal, limits=limits, clock=clock
        )
        auth = FetchedToken(self._fetch_token, clock)
        self._http = VendorHttp(session, "Google Calendar", base_url, auth, read_refusal, limits=limits, clock=clock)

    @property
    def _events(self) -> str:
        return f"/calendars/{quote(self._calendar_id, safe='')}/events"

    async def _fetch_token(self) -> Grant:
        now = self._clock()
        form = {"grant_type": _GRANT_TYPE, "assertion": self._service.assertion(now)}
        needs = ("access_token", "expires_in")
        body = (await self._login.send(Call("log in", "POST", "", Repeat.SAFE, form=form, needs=needs))).body
        return Grant(body["access_token"], expires_at=now + timedelta(seconds=int(body["expires_in"])))

    async def free_slots(self, tenant_id: str, start: datetime, end: datetime, minutes: int, limit: int) -> list[Slot]:
        self._account.check(tenant_id)
        check_search(start, end, minutes, limit)
        start = max(start, self._clock())
        if start >= end:
            return []
        return free_slots(self._hours, await self._busy(Slot(start, end)), start, end, minutes, limit)

    async def _busy(self, span: Slot) -> list[Slot]:
        query = {"timeMin": utc_text(span.start), "timeMax": utc_text(span.end), "items": [{"id": self._calendar_id}]}
        call = Call("look up free time", "POST", "/freeBusy", Repeat.SAFE, json=query, needs=("calendars",))
        answer = await self._http.send(call)
        calendar = answer.body["calendars"].get(self._calendar_id, {"errors": [{"reason": "notFound"}]})
        if calendar.get("errors"):
            reason = self._http.clean(str(calendar["errors"][0].get("reason")), answer)
            detail = f"Google Calendar could not {call.operation}: {reason}; check TRELLIS_GOOGLE_CALENDAR_ID."
            raise IntegrationError(detail, retryable=False)
        return [_slot(busy["start"], busy["end"]) for busy in calendar["busy"]]

    async def book(
        self, tenant_id: str, slot: Slot, attendee_email: str, title: str, description: str, *, key: str
    ) -> Booking:
        self._account.check(tenant_id)
        event = {
            "id": event_id(tenant_id, checked_key(key)),
            "summary": title,
            "start": {"dateTime": utc_text(slot.start), "timeZone": self._hours.zone},
            "end": {"dateTime": utc_text(slot.end), "timeZone": self._hours.zone},
            **self._invitation(normal_email(attendee_email), description),
        }
        async with self._inserting:
            if not any(busy.overlaps(slot) for busy in await self._busy(slot)):
                return await self._insert(event, slot)
        # What is in the way may be this key's own booking.
        existing = await self._find(event_id(tenant_id, key))
        if existing is None:
            raise SlotTaken("The slot was taken by another appointment: offer another one.")
        return existing

    def _invitation(self, attendee: str, description: str) -> dict[str, Any]:
        if self._service.delegated:
            return {"description": description, "attendees": [{"email": attendee}]}
        return {"description": f"{description}\n\nAttendee: {attendee}".strip()}

    async def _insert(self, event: Mapping[str, Any], slot: Slot) -> Booking:
        self._hours.check_bookable(slot, self._clock())
        call = Call(
            "book the slot",
            "POST",
            self._events,
            Repeat.SAFE,
            _TELL_ALL,
            json=event,
            accept=frozenset({409}),
            needs=_EVENT,
        )
        answer = await self._http.send(call)
        if answer.ok:
            return _booking(answer.body)
        existing = await self._find(event["id"])
        if existing is None:
            raise self._http.refused(call, answer)
        return existing

    async def _find(self, booking_id: str) -> Booking | None:
        path = f"{self._events}/{booking_id}"
        call = Call("fetch the booking", "GET", path, Repeat.SAFE, accept=frozenset({404, 410}), needs=_EVENT)
        answer = await self._http.send(call)
        if not answer.ok:
            return None
        if answer.body.get("status") == "cancelled":
            raise KeyReused("The booking of this key was cancelled: book again with a new key.")
        return _booking(answer.body)

    async def cancel(self, tenant_id: str, booking_id: str) -> None:
        self._account.check(tenant_id)
        call = Call(
            "cancel the booking",
            "DELETE",
            f"{self._events}/{quote(booking_id, safe='')}",
            Repeat.SAFE,
            _TELL_ALL,
            accept=frozenset({404, 410}),
        )
        if (await self._http.send(call)).status == 404:
            raise NotFound(f"There is no booking '{booking_id[:80]}'.")


def _slot(start: str, end: str) -> Slot:
    return Slot(datetime.fromisoformat(start).astimezone(UTC), datetime.fromisoformat(end).astimezone(UTC))


def _booking(event: Mapping[str, Any]) -> Booking:
    slot = _slot(event["start"]["dateTime"], event["end"]["dateTime"])
    return Booking(event["id"], slot, event.get("htmlLink"))
