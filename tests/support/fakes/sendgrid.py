"""SendGrid's v3 Mail Send."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.fakes.server import FakeVendor, Refused, answer, bearer, is_json

TOKEN = "SG.fake-key.of-the-sendgrid-fake"
SENDER = "sales@lumenridge.example"
RATE_LIMIT = {"errors": [{"field": None, "message": "too many requests"}]}
_FIELDS = {"personalizations", "from", "reply_to", "subject", "content", "headers", "custom_args", "categories"}


def fault(status: int, message: str, name: str | None = None) -> Refused:
    return Refused(status, {"errors": [{"message": message, "field": name, "help": None}]})


@dataclass
class FakeSendGrid(FakeVendor):
    sent: list[dict[str, Any]] = field(default_factory=list)

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.post("/v3/mail/send", self.send)]

    async def send(self, request: web.Request) -> web.Response:
        if bearer(request) != TOKEN:
            raise fault(401, "The provided authorization grant is invalid, expired, or revoked")
        if not is_json(request):
            raise fault(415, "Content-Type should be application/json.")
        mail = orjson.loads(await request.read())
        self._check(mail)
        self.sent.append(mail)
        return answer(None, 202, {"X-Message-Id": f"14c5d75ce93.dfd.64b469-{len(self.sent)}"})

    def _check(self, mail: dict[str, Any]) -> None:
        for name in mail.keys() - _FIELDS:
            raise fault(400, "Additional property is not allowed", name)
        if mail.get("from", {}).get("email") != SENDER:
            raise fault(403, "The from address does not match a verified Sender Identity.", "from")
        if not mail.get("subject"):
            raise fault(400, "The subject is required.", "subject")
        content = mail.get("content") or [{}]
        if content[0].get("type") != "text/plain" or not content[0].get("value"):
            raise fault(400, "The content value must be a string at least one character in length.", "content.0.value")
        for number, one in enumerate(mail.get("personalizations") or [{}]):
            self._check_receiver(one, f"personalizations.{number}")

    def _check_receiver(self, one: dict[str, Any], where: str) -> None:
        if not one.get("to") or "@" not in one["to"][0].get("email", ""):
            raise fault(400, "Does not contain a valid address.", f"{where}.to.0.email")
        if not all(isinstance(value, str) for value in one.get("custom_args", {}).values()):
            raise fault(400, "The value must be a string.", f"{where}.custom_args")
