"""Agent teams as a pack: what it is made of."""

from pathlib import Path

from fastapi import APIRouter

from app.pack import Kit, Pack, PackRuntime
from app.packs.teams import models

ROOT = Path(__file__).parent
PACK = "teams"


def build(_kit: Kit) -> PackRuntime:
    assert models
    return PackRuntime(router=APIRouter())


TEAMS = Pack(name=PACK, title="Teams", build=build, prompts=ROOT / "prompts")
"""Named in `app.container.PACKS`."""
