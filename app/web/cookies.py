"""The console's cookies: no script reads them, no other site sends them, over TLS only where there is TLS."""

from starlette.requests import Request
from starlette.responses import Response

from app.settings import Environment, Settings
from app.web.places import BASE

SESSION_COOKIE = "trellis_session"
FORM_COOKIE = "trellis_form"


def set_cookie(request: Request, answer: Response, name: str, value: str, life_s: int, settings: Settings) -> None:
    secure = request.url.scheme == "https" or settings.environment is Environment.PRODUCTION
    answer.set_cookie(name, value, max_age=life_s, path=BASE, httponly=True, samesite="strict", secure=secure)


def drop_cookie(answer: Response, name: str) -> None:
    answer.delete_cookie(name, path=BASE, httponly=True, samesite="strict")
