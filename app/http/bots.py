"""Bots as bodies and addresses name them."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

from app.knowledge.page import BOT_NAME

BotName = Annotated[str, Field(pattern=f"^{BOT_NAME}$")]
InBot = Annotated[BotName, Path()]
