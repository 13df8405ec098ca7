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
from app.errors import InvalidInput
from app.settings import Settings, load_settings
from app.terminal.client import ChatClient
from app.terminal.talk import Talk, prompt

DEFAULT_BOT = "handbook"


def chat(
    user: Annotated[str, typer.Option("--as", help="Whose conversation it is: the id of one of your users.")],
    question: Annotated[str | None, typer.Argument(help="Ask this and end; what is piped in is one question.")] = None,
    bot: Annotated[str, typer.Option("--bot", help="Whom to ask; `claims` is the claims assistant.")] = DEFAULT_BOT,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Talk to an assistant as one of your users."""
    asked = None if question is None and sys.stdin.isatty() else _asked(question)
    settings, console = load_settings(), Console()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            client = runner.run(_open(stack, settings, url, key, user, bot))
            talk = Talk(client, console, runner)
            if asked is None:
                talk.many(partial(prompt, console))
                return
            answered = talk.once(asked)
        finally:
            runner.run(stack.aclose())
    if not answered:
        raise typer.Exit(1)


def _asked(question: str | None) -> str:
    """The question, or all of the standard input. Raises InvalidInput where it is empty."""
    asked = (sys.stdin.read() if question is None else question).strip()
    if not asked:
        raise InvalidInput("There is no question: give one, pipe one in, or start `trellis chat` in a terminal.")
    return asked


async def _open(
    stack: AsyncExitStack, settings: Settings, url: str | None, key: str | None, user: str, bot: str
) -> ChatClient:
    rest = await stack.enter_async_context(Rest.open(settings, url, key))
    address = (url or settings.address).rstrip("/")
    return await stack.enter_async_context(ChatClient.open(rest, address, user, bot))
