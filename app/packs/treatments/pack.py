"""Treatments as a pack: what it is made of."""

from pathlib import Path

from fastapi import APIRouter

from app.pack import Kit, Pack, PackRuntime
from app.packs.treatments import models

ROOT = Path(__file__).parent
PACK = "treatments"


def build(_kit: Kit) -> PackRuntime:
    assert models
    return PackRuntime(router=APIRouter())


TREATMENTS = Pack(name=PACK, title="Treatments", build=build, prompts=ROOT / "prompts")
"""Named in `app.container.PACKS`."""
