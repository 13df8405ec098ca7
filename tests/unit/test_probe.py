"""`trellis health`: one sentence and an exit code, for every state that a process can be in."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.probe import ask, main
from app.settings import Settings, load_settings
from tests.support.server import free_port

DOWN = {"name": "database", "ok": False, "cause": "no answer within 2 s"}
AWAY = {"name": "redis", "ok": False, "cause": "Redis does not answer."}
UP = {"name": "schema", "ok": True, "cause": None}
STATES = {
    "/healthz": (200, {"alive": True}),
    "/startupz": (503, {"started": False, "checks": [UP, DOWN]}),
    "/readyz": (200, {"ready": True, "degraded": True, "checks": [UP, AWAY]}),
    "/well": (200, {"ready": True, "degraded": False, "checks": [UP]}),
    "/ill": (503, {"ready": False, "degraded": True, "checks": [DOWN, AWAY]}),
    "/odd": (500, None),
}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, state = STATES[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"<html>" if state is None else json.dumps(state).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def settings() -> Iterator[Settings]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield load_settings({}, host="0.0.0.0", port=server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "well", "sentence"),
    [
        ("/healthz", True, "Alive."),
        ("/startupz", False, "Not started: database (no answer within 2 s)"),
        ("/readyz", True, "Ready, without redis (Redis does not answer.)"),
        ("/well", True, "Ready."),
        ("/ill", False, "Not ready: database (no answer within 2 s); redis (Redis does not answer.)"),
        ("/odd", False, "It answered 500: look at its log."),
    ],
)
def test_a_state_is_a_sentence(settings: Settings, path: str, well: bool, sentence: str) -> None:
    assert ask(settings, path) == (well, sentence)


def test_options_choose_the_probe_and_its_answer_the_exit_code(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRELLIS_PORT", str(settings.port))
    assert [main([]), main(["--ready"]), main(["--startup"])] == [0, 0, 1]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "Alive.",
        "Ready, without redis (Redis does not answer.)",
        "Not started",
    ]
    assert main(["--redy"]) == 2
    monkeypatch.setenv("TRELLIS_PORT", str(free_port()))
    assert main([]) == 1
    assert capsys.readouterr().out.startswith("Nothing that is Trellis answers at http://127.0.0.1:")
