"""The claims assistant as a pack: what it is made of."""

from collections.abc import Mapping
from pathlib import Path

from app.agent.offline import OfflineRule
from app.agent.tools import Tool
from app.conversation.offline import conversation_answer
from app.pack import Kit, Pack, PackRuntime, Ports
from app.packs.claims.answering import PROMPT, Answering
from app.packs.claims.api import MEMBERS_PATH, build_router
from app.packs.claims.importing import PACK
from app.packs.claims.offline import ClaimsRule
from app.packs.claims.people import MembersOfPerson
from app.packs.claims.service import ClaimsService
from app.packs.claims.tools import build_tools

ROOT = Path(__file__).parent


def build(kit: Kit) -> PackRuntime:
    service = ClaimsService(kit)
    kit.assistant.show(PACK)
    return PackRuntime(
        router=build_router(kit, service, Answering(kit)),
        batch_paths=(MEMBERS_PATH,),
        load_sample=service.load_sample,
        people=(MembersOfPerson(),),
    )


def tools(ports: Ports) -> tuple[Tool, ...]:
    return build_tools(ports.db, ports.retriever, ports.clock)


def offline() -> Mapping[str, OfflineRule]:
    return {PROMPT: ClaimsRule(conversation_answer())}


CLAIMS = Pack(name=PACK, title="Claims", build=build, tools=tools, prompts=ROOT / "prompts", offline=offline)
"""Named in `app.container.PACKS`."""
