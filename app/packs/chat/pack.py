"""The chat agent as a pack: what it is made of."""

from collections.abc import Mapping
from pathlib import Path

from app.agent.offline import OfflineRule
from app.conversation.offline import conversation_answer
from app.pack import Kit, Pack, PackRuntime
from app.packs.chat.api import build_router
from app.packs.chat.bots import PACK, PROMPT, Bots
from app.packs.chat.document_pages import UPLOAD_PATH
from app.packs.chat.pages import build_pages
from app.packs.chat.people import FeedbackOfPerson
from app.packs.chat.replay import Replaying
from app.packs.chat.sample_data import SampleData
from app.packs.chat.shortcut import build_shortcuts
from app.packs.chat.tools import build_tools

ROOT = Path(__file__).parent


def build(kit: Kit) -> PackRuntime:
    bots = Bots(kit)
    kit.assistant.show(PACK)
    return PackRuntime(
        router=build_router(kit, bots),
        upload_paths=(UPLOAD_PATH,),
        pages=build_pages(kit, bots),
        replay=Replaying(kit, bots).replay,
        load_sample=SampleData(kit, bots).load,
        people=(FeedbackOfPerson(),),
        shortcuts=build_shortcuts(kit, bots),
        tools=build_tools(kit.ports.retriever),
    )


def offline() -> Mapping[str, OfflineRule]:
    return {PROMPT: conversation_answer()}


CHAT = Pack(name=PACK, title="Chat", build=build, prompts=ROOT / "prompts", offline=offline)
"""Named in `app.container.PACKS`."""
