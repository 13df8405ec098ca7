"""Puts the console into an application."""

from datetime import timedelta

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from app.principal import Role
from app.settings import CalendarKind, CrmKind, MailerKind, Settings
from app.web import places
from app.web.errors import install_error_pages
from app.web.guard import guard
from app.web.pack_pages import NavEntry, PackPages
from app.web.pages import approvals, audit, decisions, flags, local, sign_in
from app.web.services import Services
from app.web.sessions import Sessions
from app.web.shell import Shell
from app.web.signing import signing_key
from app.web.templating import OWN, build_templates


class _Static(StaticFiles):
    """Files that a browser may keep, asking each time whether they are the same."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        answer.headers["cache-control"] = "no-cache"
        return answer


def install_console(app: FastAPI, container: Services) -> None:
    """Mounts the console at `/console`, with the pages of every pack that has some; nothing where it is off.

    Call it after `app.http.install.install`, whose edge gives each answer its id, headers and log line.
    """
    if container.settings.console:
        app.mount(places.BASE, _console(container), "console")
        # The mount itself begins behind the slash.
        app.add_api_route(places.BASE, _home, include_in_schema=False)


async def _home() -> Response:
    return RedirectResponse(f"{places.BASE}/")


def _console(container: Services) -> FastAPI:
    packs = {name: runtime.pages for name, runtime in container.runtimes.items() if runtime.pages is not None}
    console = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(guard)])
    console.state.shell = _shell(container, packs)
    install_error_pages(console)
    console.mount("/static", _Static(directory=OWN / "static"))
    start = next((entry.path for pages in packs.values() for entry in pages.nav), places.DECISIONS)

    @console.get("/")
    async def home() -> Response:
        return RedirectResponse(start, 303)

    for router in (sign_in.router(), decisions.router(), approvals.router(), audit.router(), flags.router()):
        console.include_router(router)
    console.include_router(local.router(container.settings))
    for name, pages in packs.items():
        if pages.static is not None:
            console.mount(f"/{name}/static", _Static(directory=pages.static))
        console.include_router(pages.router, prefix=f"/{name}")
    return console


def _shell(container: Services, packs: dict[str, PackPages]) -> Shell:
    settings = container.settings
    life = timedelta(hours=settings.session_hours)
    sessions = Sessions(signing_key(settings), container.db, container.keys, container.clock, life)
    nav = (*(entry for pages in packs.values() for entry in pages.nav), *_own_places(settings))
    return Shell(container, build_templates(packs), sessions, nav, packs)


def _own_places(settings: Settings) -> tuple[NavEntry, ...]:
    """The shell's part of the navigation; the embedded integrations only where they are the ones in use."""
    places_of_local = (
        (settings.mailer is MailerKind.LOCAL, NavEntry("Outbox", places.OUTBOX)),
        (settings.calendar is CalendarKind.LOCAL, NavEntry("Calendar", places.CALENDAR)),
        (settings.crm is CrmKind.LOCAL, NavEntry("Contacts", places.CONTACTS)),
    )
    return (
        NavEntry("Decisions", places.DECISIONS),
        NavEntry("Approvals", places.APPROVALS),
        *(entry for used, entry in places_of_local if used),
        NavEntry("Audit", places.AUDIT),
        NavEntry("Switches", places.FLAGS, Role.ADMIN),
    )
