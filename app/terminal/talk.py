"""The talk itself: a question and its answer, or many, until the person has had enough."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import aclosing

from rich.console import Console
from rich.prompt import Prompt

from app.administration.events import Sent
from app.errors import TrellisError
from app.process import cancelled_by
from app.terminal.client import ChatClient
from app.terminal.screen import Screen, harmless

HELP = "/new forgets what was said, /history shows it, /quit ends. Ctrl-C stops an answer."


class Talk:
    """A person and a bot. `runner` runs what waits, and Ctrl-C cancels it."""

    def __init__(self, client: ChatClient, console: Console, runner: asyncio.Runner) -> None:
        self._client = client
        self._console = console
        self._runner = runner
        self._said: list[tuple[str, str]] = []

    def once(self, question: str) -> bool:
        """One question; whether it was answered."""
        screen = Screen(self._console)
        try:
            end = self._runner.run(self._answer(screen, question))
        except asyncio.CancelledError:
            screen.stopped()
            return False
        except TrellisError as error:
            self._fail(error.detail)
            return False
        if end is None or end.name == "error":
            self._fail(end.data["detail"] if end else "The answer ended without a word.")
            return False
        self._said.append((question, end.data["text"]))
        return True

    def many(self, ask: Callable[[], str]) -> None:
        """Until /quit, the end of the input, or Ctrl-C where no answer is under way."""
        self._console.print(HELP, style="dim")
        while True:
            try:
                line = ask().strip()
            except (EOFError, KeyboardInterrupt):
                self._console.print()
                return
            if line == "/quit":
                return
            if line:
                self._line(line)

    def _line(self, line: str) -> None:
        if line == "/new":
            self._forget()
        elif line == "/history":
            self._history()
        elif line.startswith("/"):
            self._console.print(f"There is no {line.split()[0]}. {HELP}", style="dim", markup=False)
        else:
            self.once(line)

    async def _answer(self, screen: Screen, question: str) -> Sent | None:
        """Shows the answer; its last event."""
        last = None
        with cancelled_by(signal.SIGINT):
            async with aclosing(self._client.ask(question)) as events:
                async for last in events:
                    screen.show(last)
        return last

    def _forget(self) -> None:
        try:
            self._runner.run(self._client.forget())
        except TrellisError as error:
            self._fail(error.detail)
            return
        self._said.clear()
        self._console.print("Forgotten: a new conversation begins.", style="dim")

    def _history(self) -> None:
        if not self._said:
            self._console.print("Nothing was said yet.", style="dim")
        for question, answer in self._said:
            self._console.print(f"> {harmless(question)}", style="bold", markup=False, highlight=False)
            self._console.print(harmless(answer), markup=False, highlight=False)

    def _fail(self, sentence: str) -> None:
        self._console.print(f"error: {harmless(sentence)}", style="red", markup=False, highlight=False)


def prompt(console: Console) -> str:
    """A line from the person. Raises EOFError at the end of the input."""
    return Prompt.ask("[bold]>[/bold]", console=console)
