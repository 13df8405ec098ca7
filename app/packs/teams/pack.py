"""Agent teams as a pack: what it is made of."""

from pathlib import Path

from fastapi import APIRouter

from app.agent.tools import Tool
from app.governance.flags import FlagSpec
from app.pack import Kit, Pack, PackRuntime, Ports
from app.packs.teams.api import build_questions_router
from app.packs.teams.client_api import CLIENTS_PATH, build_clients_router
from app.packs.teams.client_people import ClientsOfPerson
from app.packs.teams.client_tools import build_client_tools
from app.packs.teams.commands import build_commands
from app.packs.teams.health_room import HealthRoom
from app.packs.teams.members import ALSO
from app.packs.teams.offline import offline_rules
from app.packs.teams.pages import build_pages
from app.packs.teams.people import TeamQuestionsOfPerson
from app.packs.teams.sentiment import SentimentLexicon
from app.packs.teams.service import TeamService
from app.packs.teams.serving import Serving
from app.packs.teams.team import PACK, Teams

ROOT = Path(__file__).parent
FLAGS = (
    FlagSpec(ALSO, "", "Further tools of team members: 'member:pattern', separated by commas; '*' is any letters."),
)


def build(kit: Kit) -> PackRuntime:
    service = TeamService(kit, Teams.load())
    health = HealthRoom.of(kit)
    jobs, queues, schedules = health.jobs.declared()
    router = APIRouter()
    router.include_router(build_questions_router(service, Serving(service, kit.streams)))
    router.include_router(build_clients_router(health.service))
    return PackRuntime(
        router=router,
        batch_paths=(CLIENTS_PATH,),
        pages=build_pages(kit, service, health.service),
        jobs=jobs,
        queues=queues,
        schedules=schedules,
        load_sample=health.sample.load,
        people=(TeamQuestionsOfPerson(), ClientsOfPerson()),
    )


def tools(ports: Ports) -> tuple[Tool, ...]:
    return build_client_tools(ports, SentimentLexicon())


TEAMS = Pack(
    name=PACK,
    title="Teams",
    build=build,
    tools=tools,
    prompts=ROOT / "prompts",
    flags=FLAGS,
    offline=offline_rules,
    commands=build_commands,
)
"""Named in `app.container.PACKS`."""
