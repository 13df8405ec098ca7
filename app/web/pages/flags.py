"""Flags and kill switches, for admins."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from app.errors import InvalidInput, NotFound
from app.governance.flags import KILL, FlagSpec, parsed
from app.principal import Principal, Role
from app.web.places import FLAGS
from app.web.shell import ConsolePrincipal, CurrentShell, Shell


def router() -> APIRouter:
    routes = APIRouter(prefix="/flags")

    @routes.get("")
    async def list_flags(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        principal.require(Role.ADMIN)
        flags = shell.services.flags
        values = {name: flags.value(name, principal.tenant_id) for name in sorted(flags.specs)}
        return shell.page(request, "flags.html", specs=flags.specs, values=values, kill=KILL)

    @routes.get("/{name}")
    async def show_flag(request: Request, shell: CurrentShell, principal: ConsolePrincipal, name: str) -> Response:
        spec = _spec(shell, principal, name)
        value = shell.services.flags.value(name, principal.tenant_id)
        return shell.page(request, "flag.html", spec=spec, value=value, is_kill=name.startswith(KILL))

    @routes.post("/{name}")
    async def set_flag(
        shell: CurrentShell,
        principal: ConsolePrincipal,
        name: str,
        value: Annotated[str, Form(max_length=2_000)] = "",
        confirmed: Annotated[str, Form()] = "",
    ) -> Response:
        spec = _spec(shell, principal, name)
        if confirmed != "yes":
            raise InvalidInput("Confirm that you want to change this switch.")
        services = shell.services
        async with services.db.transaction(principal.tenant_id) as session:
            await services.flags.set(session, principal, name, parsed(value, spec))
        await services.flags.refresh()
        return RedirectResponse(FLAGS, 303)

    return routes


def _spec(shell: Shell, principal: Principal, name: str) -> FlagSpec:
    principal.require(Role.ADMIN)
    spec = shell.services.flags.specs.get(name)
    if spec is None:
        raise NotFound(f"There is no flag '{name[:120]}'.")
    return spec
