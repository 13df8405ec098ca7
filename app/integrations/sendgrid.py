"""SendGrid's v3 Mail Send with an API key.

Written from Twilio's documentation: "Mail Send" (202 and no body, `X-Message-Id`; at least one of `personalizations`
and of `content`; `custom_args` come back in the event webhook), "Errors" (`{errors: [{message, field, help}]}`),
"Rate Limits" (429 with `X-RateLimit-Reset`, seconds since 1970).

SendGrid takes no idempotency key: a request that got no answer may have been sent, and is never sent again by itself.
"""

import aiohttp

from app.clock import Clock, system_clock
from app.integrations.auth import FixedToken
from app.integrations.base import Mail, Sent, checked_key, normal_email
from app.integrations.vendor_http import Answer, Call, Limits, Refusal, Repeat, VendorAccount, VendorHttp, needed

BASE_URL = "https://api.sendgrid.com"


class SendGridMailer:
    """Args:
    token: an API key with the scope `mail.send`.
    mail_from: a verified sender.
    """

    name = "sendgrid"
    idempotent = False

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: str,
        mail_from: str,
        tenants: frozenset[str],
        *,
        base_url: str = BASE_URL,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        needed("SendGrid", sendgrid_key=token, mail_from=mail_from)
        self._account = VendorAccount("SendGrid", tenants)
        self._from = normal_email(mail_from)
        self._clock = clock
        self._http = VendorHttp(
            session, "SendGrid", base_url, FixedToken(token), self._read_refusal, limits=limits, clock=clock
        )

    async def send(self, tenant_id: str, mail: Mail, *, key: str) -> Sent:
        """`key` travels as the custom argument `trellis_key`: the vendor's activity feed finds the mail by it."""
        self._account.check(tenant_id)
        receiver = {"to": [{"email": mail.to.strip()}], "custom_args": {"trellis_key": checked_key(key)}}
        body: dict[str, object] = {
            "personalizations": [receiver],
            "from": {"email": self._from},
            "subject": mail.subject,
            "content": [{"type": "text/plain", "value": mail.body}],
        }
        if mail.reply_to is not None:
            body["reply_to"] = {"email": mail.reply_to.strip()}
        if mail.headers:
            body["headers"] = dict(mail.headers)
        answer = await self._http.send(Call("send the mail", "POST", "/v3/mail/send", Repeat.NEVER, json=body))
        return Sent(answer.headers.get("X-Message-Id") or key)

    def _read_refusal(self, answer: Answer) -> Refusal:
        errors = answer.body.get("errors", []) if isinstance(answer.body, dict) else []
        words = "; ".join(
            f"{error['field']}: {error.get('message')}" if error.get("field") else str(error.get("message"))
            for error in errors
        )
        reset = answer.headers.get("X-RateLimit-Reset", "")
        wait = max(0.0, int(reset) - self._clock().timestamp()) if reset.isdecimal() else None
        limited = answer.status == 429
        return Refusal(words, limited, wait if limited else None)
