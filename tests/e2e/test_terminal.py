"""`trellis chat` beside a running server: what REST answers, the terminal shows, for every bot."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import TrellisError
from app.terminal.screen import citation_line, harmless
from tests.support.server import Server, free_port, trellis

MEMBER = "m-1001"
SCRIPTS = {
    "handbook": (
        "How many days of annual leave do I have?",
        "And how do I ask for it?",
        "What is the capital of Mongolia?",
    ),
    "claims": (
        "Which of my claims are still open?",
        "How much of my dental limit is left this year?",
        "How long does it take until a claim is paid?",
    ),
}


@dataclass
class Served:
    """A running server with its samples, and the command line in this process."""

    server: Server
    key: str

    def chat(self, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        return self.command("chat", *arguments, stdin=stdin)

    def command(self, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        environment = {"TRELLIS_HOME": str(self.server.home), "TRELLIS_PORT": str(self.server.port), "COLUMNS": "200"}
        done = CliRunner().invoke(cli, [*arguments], env=environment, input=stdin)
        if isinstance(done.exception, TrellisError):
            return 1, done.exception.detail
        return done.exit_code, done.output

    def rest(self, method: str, path: str, key: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        with urlopen(Request(self.server.address + path, data, headers, method=method), timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def token(self) -> str:
        return str(self.rest("POST", f"/v1/users/{MEMBER}/token", self.key)["token"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("terminal"), free_port()
    trellis(home, port, "migrate")
    with Server(home, port, "--sample", TRELLIS_LOG_LEVEL="WARNING") as server:
        server.wait_ready()
        # Every answer is made anew: what is compared are two answers, not one and its copy.
        for cache in ("answers", "models"):
            trellis(home, port, "flags", "set", f"cache.{cache}", "false")
        yield Served(server, (home / "local.key").read_text().strip())


@pytest.mark.parametrize("bot", SCRIPTS)
def test_the_same_talk_through_rest_and_the_terminal(served: Served, bot: str) -> None:
    base = "/v1/claims" if bot == "claims" else f"/v1/bots/{bot}"
    token = served.token()
    expected = [served.rest("POST", f"{base}/chat", token, {"message": question}) for question in SCRIPTS[bot]]
    served.rest("DELETE", f"{base}/memory", token)
    for question, answer in zip(SCRIPTS[bot], expected, strict=True):
        code, shown = served.chat("--as", MEMBER, "--bot", bot, question)
        assert code == 0, shown
        text, _, notes = shown.partition("\n" + cost_of(shown))
        cited = [harmless(citation_line(citation)) for citation in answer["citations"]]
        assert text.endswith("\n".join([answer["text"].rstrip(), *cited]).rstrip())
        assert not notes.strip()
        used = dict.fromkeys(tool["tool"] for tool in answer["tools"])
        assert ("used " + ", ".join(used) in shown) is bool(used)
    served.rest("DELETE", f"{base}/memory", token)


def cost_of(shown: str) -> str:
    return re.findall(r"^\$0.* s(?: · used .*)?$", shown, re.MULTILINE)[-1] + "\n"


def test_a_talk_from_a_pipe_asks_its_one_question(served: Served) -> None:
    code, shown = served.chat("--as", MEMBER, stdin=SCRIPTS["handbook"][0])
    assert (code, "[1]" in shown) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--as", MEMBER, "--bot", "nobody", "hello"), "error: There is no bot 'nobody'"),
        (("--as", "no id!", "hello"), "A user's id has 1 to 100 letters"),
        (("--as", MEMBER, "--key", "trl_wrong", "hello"), "unknown, revoked or expired"),
        (("--as", MEMBER, "--url", "http://127.0.0.1:1", "hello"), "Nothing answers at http://127.0.0.1:1"),
        (("--as", MEMBER, "  "), "There is no question"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    served: Served, arguments: tuple[str, ...], sentence: str
) -> None:
    code, shown = served.chat(*arguments)
    assert (code, sentence in shown) == (1, True), shown
    assert "Traceback" not in shown


def test_a_person_is_exported_and_erased_from_the_command_line(served: Served, tmp_path: Path) -> None:
    user, file = "m-1003", tmp_path / "person.json"
    environment = {"TRELLIS_HOME": str(served.server.home), "TRELLIS_PORT": str(served.server.port), "COLUMNS": "200"}

    def people(*arguments: str, answer: str = "") -> str:
        done = CliRunner().invoke(cli, ["people", *arguments], env=environment, input=answer)
        return str(done.output)

    assert "rows are in" in people("export", user, "--file", str(file))
    kept = json.loads(file.read_text())
    assert kept["stores"]["claims"]
    asked = people("erase", user, answer="n\n")
    assert f"{user}. Erase them for good?" in asked
    assert json.loads(people("export", user))["stores"]["claims"] == kept["stores"]["claims"]
    done = people("erase", user, "--yes")
    assert re.search(rf"claims\W+{len(kept['stores']['claims'])}\b", done)
    assert json.loads(people("export", user))["stores"]["claims"] == []
    with pytest.raises(HTTPError, match="403"):
        served.rest("DELETE", f"/v1/people/{MEMBER}", served.token())


def test_a_team_is_asked_with_its_plan_its_sources_and_what_is_missing(served: Served) -> None:
    code, shown = served.command("teams", "ask", "client_health", "Which of our clients is at risk, and why?")
    assert code == 0, shown
    for said in (
        "[1] activity: Which",
        "(after 1)",
        "[4] engineering is done",
        "Borealis Foods",
        "Missing: ",
        "client_list",
    ):
        assert said in shown, said
    [question_id] = re.findall(r"ques_[0-9a-z]+", shown)
    assert "Borealis Foods" in served.command("teams", "show", question_id)[1]
    assert question_id in served.command("teams", "questions")[1]
    assert "client_signals" in served.command("teams", "list")[1]
    assert served.command("teams", "ask", "nobody", "Why?") == (
        1,
        "There is no team 'nobody': ask one of sales_intelligence, client_health.",
    )
