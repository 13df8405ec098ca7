"""`trellis chat` as a command."""

import asyncio
import sys
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from app.administration.rest import Rest
from app.console import KeyOption, UrlOption
from app.settings import Settings, load_settings
from app.terminal.client import ChatClient
from app.terminal.talk import Talk, prompt

DEFAULT_BOT = "handbook"


def chat(
    user: Annotated[str, typer.Option("--as", help="Whose conversation it is: the id of one of your users.")],
    question: Annotated[str | None, typer.Argument(help="Ask this and end; left out, a talk begins.")] = None,
    bot: Annotated[str, typer.Option("--bot", help="Whom to ask; `claims` is the claims assistant.")] = DEFAULT_BOT,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Talk to an assistant as one of your users."""
    settings, console = load_settings(), Console()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            client = runner.run(_open(stack, settings, url, key, user, bot))
            talk = Talk(client, console, runner)
            if question is None and sys.stdin.isatty():
                talk.many(partial(prompt, console))
                return
            answered = talk.once(question if question is not None else sys.stdin.read())
        finally:
            runner.run(stack.aclose())
    if not answered:
        raise typer.Exit(1)


async def _open(
    stack: AsyncExitStack, settings: Settings, url: str | None, key: str | None, user: str, bot: str
) -> ChatClient:
    rest = await stack.enter_async_context(Rest.open(settings, url, key))
    address = (url or settings.address).rstrip("/")
    return await stack.enter_async_context(ChatClient.open(rest, address, user, bot))
