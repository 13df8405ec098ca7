"""The console's shell: the sessions, the templates and the navigation that every page is made with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment

from app.principal import Principal
from app.web.cookies import FORM_COOKIE, set_cookie
from app.web.pack_pages import NavEntry, PackPages
from app.web.places import BASE
from app.web.services import Services
from app.web.sessions import Sessions, Visit

# Scripts and styles come from our own files only: nothing inline, nothing from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)


@dataclass(frozen=True, slots=True)
class Shell:
    """Everything that a page is rendered with; one for each application, at `request.app.state.shell`."""

    services: Services
    templates: Environment
    sessions: Sessions
    nav: tuple[NavEntry, ...]
    packs: Mapping[str, PackPages]

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A template as an answer; it can use the visitor, the navigation and the token of forms."""
        visit: Visit | None = getattr(request.state, "visit", None)
        principal = visit.principal if visit else None
        text = self.templates.get_template(template).render(
            base=BASE,
            principal=principal,
            nav=[entry for entry in self.nav if principal and principal.has(entry.role)],
            current=self._current(request.url.path),
            form_token=self.sessions.form_token(visit.binding) if visit else "",
            **values,
        )
        answer = HTMLResponse(text, status, {"content-security-policy": CONTENT_SECURITY_POLICY})
        if visit is not None and visit.fresh:
            life_s = round(self.sessions.life.total_seconds())
            set_cookie(request, answer, FORM_COOKIE, visit.binding, life_s, self.services.settings)
        return answer

    def _current(self, here: str) -> NavEntry | None:
        """The navigation's nearest entry above the page."""
        above = [entry for entry in self.nav if f"{here}/".startswith(f"{entry.path}/")]
        return max(above, key=lambda entry: len(entry.path), default=None)


def _shell(request: Request) -> Shell:
    shell: Shell = request.app.state.shell
    return shell


def _principal(request: Request) -> Principal:
    """The visitor that the guard of the console admitted to this request."""
    visit: Visit = request.state.visit
    assert visit.principal is not None
    return visit.principal


CurrentShell = Annotated[Shell, Depends(_shell)]
ConsolePrincipal = Annotated[Principal, Depends(_principal)]
