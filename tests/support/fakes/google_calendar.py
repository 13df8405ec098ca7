"""Google's token endpoint for service accounts, and the Calendar API's freeBusy and events."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.clock import Clock, system_clock
from app.integrations.wire import utc_text
from tests.support.fakes.server import FakeVendor, Refused, answer, bearer, is_json

CALENDAR_ID = "sales@lumenridge.example"
ACCOUNT = "agent@trellis.iam.gserviceaccount.com"
SUBJECT = "seller@lumenridge.example"
_ID = re.compile(r"[a-v0-9]{5,1024}")
_EVENT_FIELDS = {"id", "summary", "description", "start", "end", "attendees"}


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def error(code: int, reason: str, message: str, domain: str = "global") -> dict[str, Any]:
    errors = [{"domain": domain, "reason": reason, "message": message}]
    return {"error": {"errors": errors, "code": code, "message": message}}


RATE_LIMIT = error(403, "rateLimitExceeded", "Rate Limit Exceeded", "usageLimits")


@dataclass
class FakeGoogle(FakeVendor):
    clock: Clock = system_clock
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str | None] = field(default_factory=dict)

    def routes(self) -> Iterable[web.RouteDef]:
        events = "/calendar/v3/calendars/{calendar}/events"
        return [
            web.post("/token", self.token),
            web.post("/calendar/v3/freeBusy", self.free_busy),
            web.post(events, self.insert),
            web.get(events + "/{id}", self.fetch),
            web.delete(events + "/{id}", self.remove),
        ]

    def key_file(self) -> str:
        pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        file = {
            "type": "service_account",
            "project_id": "trellis",
            "private_key_id": "k1",
            "private_key": pem,
            "client_email": ACCOUNT,
            "token_uri": f"{self.url}/token",
        }
        return orjson.dumps(file).decode()

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise Refused(400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"})
        claims = self._claims(str(form.get("assertion")))
        token = f"ya29.{len(self.seen)}.c0ffee"
        self.tokens[token] = claims.get("sub")
        return answer({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _claims(self, assertion: str) -> dict[str, Any]:
        refused = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        try:
            claims: dict[str, Any] = jwt.decode(
                assertion,
                private_key().public_key(),
                algorithms=["RS256"],
                audience=f"{self.url}/token",
                options={"verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as reason:
            raise Refused(400, refused) from reason
        now = self.clock().timestamp()
        fresh = claims["iat"] <= now < claims["exp"] <= claims["iat"] + 3600
        if (
            not fresh
            or claims["iss"] != ACCOUNT
            or not claims["scope"].startswith("https://www.googleapis.com/auth/calendar")
        ):
            raise Refused(400, refused)
        return claims

    def _check(self, request: web.Request) -> str | None:
        if bearer(request) not in self.tokens:
            raise Refused(401, error(401, "authError", "Invalid Credentials"))
        if request.method == "POST" and not is_json(request):
            raise Refused(400, error(400, "parseError", "This API does not support parsing form-encoded input."))
        if request.match_info.get("calendar", CALENDAR_ID) != CALENDAR_ID:
            raise Refused(404, error(404, "notFound", "Not Found"))
        return self.tokens[bearer(request)]

    def _moment(self, value: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError) as reason:
            raise Refused(400, error(400, "badRequest", "Bad Request")) from reason
        if moment.tzinfo is None:
            raise Refused(400, error(400, "required", "Missing time zone definition for the time."))
        return moment

    def live(self) -> list[dict[str, Any]]:
        return [event for event in self.events.values() if event["status"] != "cancelled"]

    async def free_busy(self, request: web.Request) -> web.Response:
        self._check(request)
        body = orjson.loads(await request.read())
        start, end = self._moment(body.get("timeMin")), self._moment(body.get("timeMax"))
        if start >= end:
            raise Refused(400, error(400, "timeRangeEmpty", "The specified time range is empty.", "calendar"))
        calendars = {one["id"]: self._busy(one["id"], start, end) for one in body["items"]}
        return answer(
            {
                "kind": "calendar#freeBusy",
                "timeMin": body["timeMin"],
                "timeMax": body["timeMax"],
                "calendars": calendars,
            }
        )

    def _busy(self, calendar: str, start: datetime, end: datetime) -> dict[str, Any]:
        if calendar != CALENDAR_ID:
            return {"errors": [{"domain": "global", "reason": "notFound"}], "busy": []}
        spans = [(self._moment(one["start"]["dateTime"]), self._moment(one["end"]["dateTime"])) for one in self.live()]
        clipped = sorted((max(start, a), min(end, b)) for a, b in spans if a < end and start < b)
        return {"busy": [{"start": utc_text(a), "end": utc_text(b)} for a, b in clipped]}

    async def insert(self, request: web.Request) -> web.Response:
        subject = self._check(request)
        event = orjson.loads(await request.read())
        if event.keys() - _EVENT_FIELDS or request.query.get("sendUpdates", "none") not in {
            "all",
            "externalOnly",
            "none",
        }:
            raise Refused(400, error(400, "invalid", "Invalid value"))
        if not _ID.fullmatch(event["id"]):
            raise Refused(400, error(400, "invalid", "Invalid resource id value."))
        if self._moment(event["start"]["dateTime"]) >= self._moment(event["end"]["dateTime"]):
            raise Refused(400, error(400, "timeRangeEmpty", "The specified time range is empty.", "calendar"))
        if event.get("attendees") and subject is None:
            message = "Service accounts cannot invite attendees without Domain-Wide Delegation of Authority."
            raise Refused(403, error(403, "forbiddenForServiceAccounts", message, "calendar"))
        if event["id"] in self.events:
            raise Refused(409, error(409, "duplicate", "The requested identifier already exists."))
        link = f"https://www.google.com/calendar/event?eid={event['id']}"
        self.events[event["id"]] = {"kind": "calendar#event", "status": "confirmed", "htmlLink": link, **event}
        return answer(self.events[event["id"]])

    def _event(self, request: web.Request) -> dict[str, Any]:
        self._check(request)
        event = self.events.get(request.match_info["id"])
        if event is None:
            raise Refused(404, error(404, "notFound", "Not Found"))
        return event

    async def fetch(self, request: web.Request) -> web.Response:
        return answer(self._event(request))

    async def remove(self, request: web.Request) -> web.Response:
        event = self._event(request)
        if event["status"] == "cancelled":
            raise Refused(410, error(410, "deleted", "Resource has been deleted"))
        event["status"] = "cancelled"
        return answer(None, 204)
