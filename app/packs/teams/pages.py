"""The teams' part of the console: questions are in `question_pages`, clients in `client_pages`."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter

from app.pack import Kit
from app.packs.teams.client_pages import CLIENTS, add_clients
from app.packs.teams.clients import ClientService
from app.packs.teams.question_pages import TEAMS, add_questions
from app.packs.teams.service import TeamService
from app.principal import Role
from app.web.pack_pages import NavEntry, PackPages

HERE: Final = Path(__file__).parent


def build_pages(kit: Kit, service: TeamService, clients: ClientService) -> PackPages:
    routes = APIRouter()
    add_clients(routes, kit, clients)
    add_questions(routes, kit, service)
    return PackPages(
        router=routes,
        nav=(NavEntry("Teams", TEAMS, Role.AGENT), NavEntry("Clients", CLIENTS)),
        templates=HERE / "templates",
        static=HERE / "static",
    )
