"""`trellis teams ask, list, show`: questions to teams of agents, through the running server's API."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.administration.events import Refused, Sent
from app.administration.rest import Rest
from app.console import KeyOption, UrlOption, out, with_ids
from app.errors import InvalidInput
from app.settings import load_settings

teams = typer.Typer(no_args_is_help=True, help="Teams of agents.")
_SHOWN = 60


@teams.command("ask")
def teams_ask(
    team: Annotated[str, typer.Argument(help="The team; `trellis teams list` shows them.")],
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    subject: Annotated[str, typer.Option(help="Whom or what it is about, such as a client's id.")] = "",
    seconds: Annotated[float | None, typer.Option(help="The time that it may take.", min=1)] = None,
    usd: Annotated[float | None, typer.Option(help="The money that it may cost.", min=0)] = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Put a question to a team: its plan, its members' progress, the answer with its sources and what is missing."""
    if not question.strip():
        raise InvalidInput("The question is empty: write what you want to know.")
    limits = {name: value for name, value in (("seconds", seconds), ("cost_usd", usd)) if value is not None}
    body = {"question": question, "subject": subject, "stream": True, "limits": limits or None}
    answered = asyncio.run(_ask(team, body, url, key))
    if answered["state"] == "failed":
        raise typer.Exit(1)


async def _ask(team: str, body: dict[str, Any], url: str | None, key: str | None) -> dict[str, Any]:
    """Shows what happens; the answered question. Raises Refused where there is no answer."""
    async with (
        Rest.open(load_settings(), url, key) as rest,
        aclosing(rest.events(f"/v1/teams/{quote(team, safe='')}/ask", body, ("answer", "error"))) as events,
    ):
        async for event in events:
            _show_event(event)
            if event.name == "answer":
                return event.data
            if event.name == "error":
                raise Refused(event.data["detail"])
    raise Refused("The answer ended without a word: ask again.")


def _show_event(event: Sent) -> None:
    data = event.data
    if event.name == "plan":
        for task in data["tasks"]:
            after = f" (after {', '.join(map(str, task['after']))})" if task["after"] else ""
            out.print(f"[{task['number']}] {task['member']}: {task['question']}{after}", style="dim", highlight=False)
    elif event.name == "task_ended":
        found = len(data["evidence"])
        said = data["problem"] or f"{found} piece{'s' if found != 1 else ''} of evidence"
        took = f"{data['state']} after {data['duration_ms'] / 1000:.1f} s"
        out.print(f"[{data['number']}] {data['member']} is {took}: {said}", style="dim", highlight=False)
    elif event.name == "answer":
        _show_question(data)


def _plain(quote: str) -> str:
    """Nothing of a quote that is data and no words: its id leads to it."""
    return "" if quote.lstrip()[:1] in ("{", "[") else quote


def _show_question(question: Mapping[str, Any]) -> None:
    answer = question["answer"]
    if answer is None:
        out.print(question["problem"] or f"The question is {question['state']}.", highlight=False)
        return
    out.print(f"\n{answer['text']}\n", highlight=False)
    for row in answer["evidence"]:
        parts = [row["id"], row["tool"], " ".join((row["title"] or _plain(row["quote"])).split())[:_SHOWN]]
        out.print(f"  {' · '.join(part for part in parts if part)}", highlight=False)
    for gap in answer["missing"]:
        out.print(f"Missing: {gap['what']} ({gap['why']})", highlight=False)
    for note in answer["notes"]:
        out.print(f"Note: {note}", highlight=False)
    parts = [
        f"${question['cost_usd']:.6f}".rstrip("0").rstrip("."),
        f"{question['tokens']} tokens",
        answer["model"] or "joined by rule",
        f"{question['duration_ms'] / 1000:.2f} s",
        question["id"],
    ]
    out.print(" · ".join(parts), style="dim", highlight=False)


@teams.command("list")
def teams_list(url: UrlOption = None, key: KeyOption = None) -> None:
    """The teams, and what each member may look up here."""
    for team in asyncio.run(_get("/v1/teams", url, key))["teams"]:
        out.print(f"{team['name']}: {team['answers']}", highlight=False)
        for member in team["members"]:
            tools = ", ".join(member["tools"]) or "nothing that it may look up here"
            out.print(f"  {member['name']}: {member['knows']} ({tools})", highlight=False)


@teams.command("questions")
def teams_questions(url: UrlOption = None, key: KeyOption = None) -> None:
    """What was asked last, newest first."""
    table = with_ids("Team", "State", "Question", "USD")
    for row in asyncio.run(_get("/v1/teams/questions", url, key))["items"]:
        table.add_row(row["id"], row["team"], row["state"], row["question"], f"{row['cost_usd']:.4f}")
    out.print(table)


@teams.command("show")
def teams_show(question_id: str, url: UrlOption = None, key: KeyOption = None) -> None:
    """A question with its tasks and its answer."""
    question = asyncio.run(_get(f"/v1/teams/questions/{quote(question_id, safe='')}", url, key))
    for task in question["tasks"]:
        _show_event(Sent("", "plan", {"tasks": [task]}))
        out.print(f"    {task['state']}: {task['answer'] or task['problem']}", highlight=False)
    _show_question(question)


async def _get(path: str, url: str | None, key: str | None) -> Any:
    async with Rest.open(load_settings(), url, key) as rest:
        return await rest.get(path)
