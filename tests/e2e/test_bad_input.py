"""Wrong input on a real server and the command line: one clear sentence, the right status, nothing stored."""

import gzip
import http.client
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from tests.support.server import Server, free_port, trellis

LEADS, BATCH = "/v1/leads", "/v1/leads/batch"
JSON, LINES, CSV = "application/json", "application/x-ndjson", "text/csv"
GOOD = {"name": "Ada", "email": "ada@example.org", "message": "What does it cost?"}
ROW = "Ada,ada@example.org,What does it cost?"
BOM = b"\xef\xbb\xbf"


@dataclass
class Site:
    """A running server and an admin's key of the tenant `local`."""

    server: Server
    key: str

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """`body`: bytes go with Content-Length, a list of them in chunks without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(
                method,
                path,
                body,
                {"Authorization": f"Bearer {self.key}", **named},
                encode_chunked=isinstance(body, list),
            )
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stored(self) -> int:
        with sqlite3.connect(self.server.home / "trellis.db") as database:
            return int(database.execute("SELECT count(*) FROM leads").fetchone()[0])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home, port = tmp_path_factory.mktemp("bad"), free_port()
    trellis(home, port, "migrate")
    printed = trellis(
        home, port, "keys", "create", "--label", "t", "--role", "admin", "--tier", "pro", "--new-tenant", "L"
    )
    with Server(home, port, TRELLIS_LOG_LEVEL="WARNING") as server:
        server.wait_ready()
        yield Site(server, printed.stdout.split()[1])
        assert server.process.poll() is None
        status, _, _ = Site(server, "").ask("GET", "/readyz")
        assert status == 200
        server.terminate()
    log = (home / "server.log").read_text()
    assert "Traceback" not in log, log[-3000:]


def nested(depth: int) -> bytes:
    return b'{"name": ' + b"[" * depth + b"]" * depth + b"}"


def whole(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


@dataclass(frozen=True)
class Wrong:
    """A request that is refused with `status` and a sentence that holds `says`."""

    name: str
    status: int
    says: str
    body: Any = b""
    path: str = LEADS
    kind: str = JSON
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


CHUNKS = [b"x" * 65536] * 160
WRONG = (
    Wrong("empty", 422, "body"),
    Wrong("no JSON", 400, "not valid JSON", b"name=Ada"),
    Wrong("cut off", 400, "not valid JSON", whole()[:-5]),
    Wrong("a list", 422, "body", b"[]"),
    Wrong("10 MB", 413, "1048576 bytes", b"x" * (10 << 20)),
    Wrong("10 MB in chunks", 413, "1048576 bytes", CHUNKS),
    Wrong("wrong types", 422, "'name'", whole(name=5)),
    Wrong("a list for a text", 422, "'message'", whole(message=["a"])),
    Wrong("an unknown field", 422, "'tenant_id' (body): is not a known field", whole(tenant_id="other")),
    Wrong("no address", 422, "'email'", whole(email="ada")),
    Wrong("no message", 422, "'message'", whole(message="  ")),
    Wrong("too long a message", 422, "'message'", whole(message="x" * 20_001)),
    Wrong("broken UTF-8", 400, "UTF-8", whole().replace(b"Ada", b"Ad\xff\xfe")),
    Wrong("latin-1", 400, "UTF-8", whole().replace(b"Ada", "Zoë".encode("latin-1"))),
    Wrong("deep nesting", 400, "64 levels", nested(500)),
    Wrong("very deep nesting", 400, "depth limit", nested(200_000)),
    Wrong("NUL", 422, "NUL", whole(name="A\0da")),
    Wrong("NUL in the address", 422, "NUL", path=f"{LEADS}/lead_%00", method="GET"),
    Wrong("a huge integer", 422, "64 bits", whole(attributes={"n": 0}).replace(b" 0}", b" " + b"9" * 400 + b"}")),
    Wrong("NaN", 400, "not valid JSON", whole(attributes={"n": 0}).replace(b" 0}", b" NaN}")),
    Wrong("a lone surrogate", 400, "not valid JSON", whole().replace(b"Ada", b"\\ud800")),
    Wrong("two bodies", 400, "not valid JSON", whole() + whole()),
    Wrong("gzip", 415, "Content-Encoding", gzip.compress(whole()), headers={"Content-Encoding": "gzip"}),
    Wrong("a gzip bomb", 415, "Content-Encoding", gzip.compress(bytes(50 << 20)), headers={"Content-Encoding": "gzip"}),
    Wrong("text", 415, "application/json", whole(), kind="text/plain"),
    Wrong("PUT", 405, "'PUT' is not possible", whole(), method="PUT"),
    Wrong("DELETE", 405, "'DELETE' is not possible", method="DELETE"),
    Wrong("a key with spaces", 422, "Idempotency-Key", whole(), headers={"Idempotency-Key": "a b"}),
    Wrong("too long a key", 422, "Idempotency-Key", whole(), headers={"Idempotency-Key": "k" * 201}),
    Wrong("batch: empty", 422, "empty", path=BATCH, kind=LINES),
    Wrong("batch: JSON", 415, "application/x-ndjson or text/csv", whole(), BATCH),
    Wrong("batch: broken UTF-8", 400, "UTF-8", b"\xff" + whole(), BATCH, LINES),
    Wrong("batch: 21 MB", 413, "20971520 bytes", [b"x" * 65536] * 330, BATCH, LINES),
    Wrong("batch: 1,001 lines", 422, "at most 1,000", (whole() + b"\n") * 1_001, BATCH, LINES),
    Wrong("batch: 1,001 rows", 422, "at most 1,000", f"name,email,message\n{(ROW + chr(10)) * 1_001}", BATCH, CSV),
    Wrong(
        "batch: gzip",
        415,
        "Content-Encoding",
        gzip.compress(whole()),
        BATCH,
        LINES,
        headers={"Content-Encoding": "gzip"},
    ),
    Wrong("CSV: empty", 422, "", b"", BATCH, CSV),
    Wrong("CSV: header only", 422, "empty", b"name,email,message\n", BATCH, CSV),
    Wrong("CSV: wrong columns", 422, "name, email, message", b"a,b\n1,2\n", BATCH, CSV),
    Wrong("CSV: no header", 422, "name, email, message", ROW, BATCH, CSV),
    Wrong("CSV: semicolons", 422, "comma", b"name;email;message\nAda;ada@example.org;Hi\n", BATCH, CSV),
    Wrong(
        "CSV: one name twice",
        422,
        "twice",
        b"name,email,email,message\nAda,a@example.org,b@example.org,Hi\n",
        BATCH,
        CSV,
    ),
    Wrong("CSV: latin-1", 400, "UTF-8", f"name,email,message\nZoë{ROW}".encode("latin-1"), BATCH, CSV),
)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_request_is_refused_in_one_sentence(site: Site, wrong: Wrong) -> None:
    before = site.stored()
    status, headers, body = site.ask(wrong.method, wrong.path, wrong.body, Content_Type=wrong.kind, **wrong.headers)
    assert status == wrong.status, body[:500]
    assert headers["content-type"] == "application/problem+json"
    detail = json.loads(body)["detail"]
    assert wrong.says in detail, detail
    assert detail.endswith(".")
    assert "\n" not in detail
    assert len(detail) < 700
    assert site.stored() == before


@dataclass(frozen=True)
class Partly:
    """A batch with lines that are stored and lines that are refused, each with its number and a reason."""

    name: str
    accepted: int
    refused: dict[int, str]
    body: bytes
    kind: str = CSV


HEADER = "name,email,message\n"
PARTLY = (
    Partly("a BOM", 1, {}, BOM + f"{HEADER}{ROW}\n".encode()),
    Partly("CRLF", 1, {}, f"{HEADER}{ROW}\n".replace("\n", "\r\n").encode()),
    Partly(
        "ragged rows",
        1,
        {2: "fewer values", 3: "more values"},
        f"{HEADER}Ada,ada@example.org\n{ROW},more,values\n{ROW}\n".encode(),
    ),
    Partly("an unclosed quote", 1, {3: "not CSV"}, f'{HEADER}{ROW}\nBo,"bo@example.org,Hi\n'.encode()),
    Partly("a line of 1 MB", 0, {2: "not CSV"}, f"{HEADER}Ada,ada@example.org,{'x' * (1 << 20)}\n{ROW}\n".encode()),
    Partly("a NUL", 1, {2: "NUL"}, f"{HEADER}A\0da,ada@example.org,Hi\n{ROW}\n".encode()),
    Partly("U+2028 in a string", 1, {}, json.dumps(GOOD | {"message": "a\u2028b"}, ensure_ascii=False).encode(), LINES),
    Partly("a BOM before JSON", 1, {}, BOM + whole(), LINES),
    Partly(
        "lines of every kind",
        2,
        {2: "not valid JSON", 3: "not a JSON object", 4: "email", 6: "64 levels", 7: "64 bits", 9: "NUL"},
        b"\n".join(
            [
                whole(),
                b"{nonsense",
                b"[1]",
                whole(email="nobody"),
                b"",
                nested(500),
                whole(attributes={"n": 0}).replace(b" 0}", b" " + b"9" * 400 + b"}"),
                whole(),
                whole(name="A\0da"),
            ]
        ),
        LINES,
    ),
    Partly("a line of 1 MB", 1, {1: "message"}, whole(message="x" * (1 << 20)) + b"\n" + whole(), LINES),
)


@pytest.mark.parametrize("partly", PARTLY, ids=lambda partly: f"{partly.kind}: {partly.name}")
def test_a_bad_line_is_named_and_does_not_stop_the_others(site: Site, partly: Partly) -> None:
    before = site.stored()
    status, _, body = site.ask("POST", BATCH, partly.body, Content_Type=partly.kind)
    report = json.loads(body)
    assert status == 200, report
    assert (report["accepted"], report["refused"]) == (partly.accepted, len(partly.refused)), report
    said = {problem["line"]: problem["problem"] for problem in report["problems"]}
    assert said.keys() == partly.refused.keys(), said
    for line, reason in partly.refused.items():
        assert reason in said[line], said
    assert site.stored() == before + partly.accepted


Make = Callable[[Path], list[str]]


def file_with(content: bytes, *more: str, name: str = "leads.csv") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [str(folder / name), *more]

    return make


GOOD_CSV = f"{HEADER}{ROW}\n".encode()
IMPORTS: dict[str, tuple[Make, str]] = {
    "a missing file": (lambda folder: [str(folder / "no.csv")], "cannot be read"),
    "a folder": (lambda folder: [str(folder)], "cannot be read"),
    "an empty file": (file_with(b""), "No column gives"),
    "a header only": (file_with(HEADER.encode()), "holds no leads"),
    "no lines": (file_with(b"\n\n", name="leads.jsonl"), "holds no leads"),
    "latin-1": (file_with(f"{HEADER}Zoë{ROW}\n".encode("latin-1")), "--encoding"),
    "an unknown encoding": (file_with(GOOD_CSV, "--encoding", "klingon"), "--encoding"),
    "a map that is no pair": (file_with(GOOD_CSV, "--map", "email"), "field=column"),
    "a map to no column": (file_with(GOOD_CSV, "--map", "email=E-Mail"), "no column 'E-Mail'"),
    "a map of no field": (file_with(GOOD_CSV, "--map", "mail=email"), "no field 'mail'"),
    "semicolons": (file_with(GOOD_CSV.replace(b",", b";")), "comma"),
    "one column twice": (file_with(GOOD_CSV.replace(b"name", b"email", 1)), "'email' twice"),
    "an unknown tenant": (file_with(GOOD_CSV, "--tenant", "nobody"), "no tenant 'nobody'"),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_that_cannot_be_is_one_sentence(
    site: Site, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, says = IMPORTS[name]
    before = site.stored()
    monkeypatch.setenv("TRELLIS_HOME", str(site.server.home))
    monkeypatch.setattr(sys, "argv", ["trellis", "leads", "import", *make(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1, printed
    assert says in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert site.stored() == before


def test_the_command_itself_ends_with_one_sentence(site: Site, tmp_path: Path) -> None:
    arguments = ["leads", "import", str(tmp_path / "no.csv")]
    found = trellis(site.server.home, site.server.port, *arguments, check=False)
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.strip().splitlines()) == 1


def test_an_import_of_latin_1_is_stored_where_it_is_named(site: Site, tmp_path: Path) -> None:
    before = site.stored()
    arguments = file_with(f"{HEADER}Zoë{ROW}\n".encode("latin-1"), "--encoding", "latin-1")(tmp_path)
    assert "1 stored" in trellis(site.server.home, site.server.port, "leads", "import", *arguments).stdout
    assert site.stored() == before + 1
