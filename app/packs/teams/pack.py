"""Agent teams as a pack: what it is made of."""

from pathlib import Path

from fastapi import APIRouter

from app.governance.flags import FlagSpec
from app.pack import Kit, Pack, PackRuntime
from app.packs.teams.api import build_questions_router
from app.packs.teams.members import ALSO
from app.packs.teams.offline import offline_rules
from app.packs.teams.people import TeamQuestionsOfPerson
from app.packs.teams.service import PACK, TeamService
from app.packs.teams.serving import Serving
from app.packs.teams.team import Teams

ROOT = Path(__file__).parent
FLAGS = (
    FlagSpec(ALSO, "", "Further tools of team members: 'member:pattern', separated by commas; '*' is any letters."),
)


def build(kit: Kit) -> PackRuntime:
    service = TeamService(kit, Teams.load())
    router = APIRouter()
    router.include_router(build_questions_router(service, Serving(service, kit.streams)))
    return PackRuntime(router=router, people=(TeamQuestionsOfPerson(),))


TEAMS = Pack(name=PACK, title="Teams", build=build, prompts=ROOT / "prompts", flags=FLAGS, offline=offline_rules)
"""Named in `app.container.PACKS`."""
