"""Files that are broken or made to do harm, on a real server: each fails alone with one sentence, and nothing grows."""

import contextlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import files
from tests.support.server import Server, free_port, trellis

DOCUMENTS = "/v1/bots/docs/documents"
BOUNDARY = "x7f3a"
MB = 1 << 20
# A child that reads files has a bound of its own; what the server itself may gain over all of this.
GROWTH_KB = 200 << 10
WAIT_S = 120.0
GOOD = "# Prices {number}\n\nA sensor costs {number} euro a month.\n"
pytestmark = pytest.mark.timeout(280)

Answer = tuple[int, Any]


@dataclass
class Site:
    """A running server and an admin's key."""

    server: Server
    key: str

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """The status and the document; `body` as an iterator goes in chunks without a length."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        sent = {"Authorization": f"Bearer {self.key}", **{name.replace("_", "-"): it for name, it in headers.items()}}
        try:
            # A server that refuses a body does not read it to its end.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, sent, encode_chunked=True)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def upload(self, name: str, content: bytes, kind: str = "application/octet-stream") -> Answer:
        body = form(name, content, kind)
        return self.ask("POST", DOCUMENTS, body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")

    def settled(self, document_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while True:
            status, document = self.ask("GET", f"{DOCUMENTS}/{document_id}")
            assert status == 200, document
            if document["status"] in ("ready", "failed"):
                return dict(document)
            assert time.monotonic() < deadline, document
            time.sleep(0.05)

    def chunks(self, document_id: str) -> Iterator[str]:
        cursor: int | None = -1
        while cursor is not None:
            after = f"&cursor={cursor}" if cursor >= 0 else ""
            _, page = self.ask("GET", f"{DOCUMENTS}/{document_id}/chunks?limit=200{after}")
            yield from (chunk["text"] for chunk in page["items"])
            cursor = page["next_cursor"]

    def peak_kb(self) -> int:
        """The most memory that the server ever held."""
        lines = Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    def stored(self) -> int:
        _, page = self.ask("GET", f"{DOCUMENTS}?limit=200")
        return len(page["items"])


def form(name: str, content: bytes, kind: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {kind}\r\n'
    return head.encode() + b"\r\n" + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home, port = tmp_path_factory.mktemp("bad-documents"), free_port()
    trellis(home, port, "migrate")
    new = ("--label", "t", "--role", "admin", "--tier", "pro", "--tenant", "bad", "--new-tenant", "Bad")
    key = trellis(home, port, "keys", "create", *new).stdout.split()[1]
    with Server(home, port, TRELLIS_LOG_LEVEL="WARNING") as server:
        server.wait_ready()
        running = Site(server, key)
        # What is loaded once, with the first file of its kind, is no growth.
        for name, content in (("warm.md", b"# Warm\n\nText."), ("warm-2.pdf", files.pdf(["Warm."])), *WARM):
            assert running.settled(running.upload(name, content)[1]["document_id"])["status"] == "ready"
        before = running.peak_kb()
        yield running
        assert server.process.poll() is None
        assert running.peak_kb() - before < GROWTH_KB
        assert server.terminate() == 0
    log = (home / "server.log").read_text()
    assert set(re.findall(r"^(?:[a-z_]+\.)*([A-Z]\w+): ", log, re.MULTILINE)) == {"Unreadable"}, log[-3000:]


WARM = (("warm-3.docx", files.word()), ("warm-4.html", files.PAGE.encode()))
FAILING = {
    "locked.pdf": (files.encrypted_pdf(files.REFUND, "secret"), "password"),
    "cut.pdf": (files.pdf([files.REFUND] * 3)[:900], "cut off"),
    "garbage.pdf": (b"%PDF-1.7\n" + bytes(range(256)) * 40, "PDF"),
    "round.pdf": (files.pdf_whose_pages_go_round(), "damaged"),
    "scanned.pdf": (files.scanned_pdf(), "text"),
    "bomb.pdf": (files.pdf_bomb(400 * MB), "bomb.pdf"),
    "bomb-2.docx": (files.word_bomb(400 * MB), "bomb-2.docx"),
    "lying-bomb.docx": (files.lying_word_bomb(400 * MB), "lying-bomb.docx"),
    "laughs.docx": (files.billion_laughs(), "laughs.docx"),
    "entity.docx": (files.external_entity("/etc/passwd"), "entity.docx"),
    "cut-2.docx": (files.word()[:-500], "cut-2.docx"),
    "long-line.md": (("four euro fifty " * (MB // 16)).encode(), "1,000,000"),
}
"""Files that are taken in, and fail when they are read: with what their reason holds."""
REFUSED = {
    "empty.txt": (b"", 422, "empty"),
    "blank.md": (b" \r\n\t \n", 422, "empty"),
    "picture.pdf": (b"\x89PNG\r\n\x1a\n" + b"x" * 99, 415, "picture"),
    "plain.docx": (b"Only text.", 422, "not one inside"),
    "program.exe": (b"MZ\x90" + bytes(99), 415, "program.exe"),
    "../../etc/archive.docx": (b"PK\x03\x04" + b"x" * 99, 415, "archive"),
}
"""Files that are refused at once."""
ODD = {
    "line.txt": ("four euro fifty " * 62_500).encode(),
    "mixed.txt": "Größe: ".encode() + "vier Euro fünfzig für Zoë\n".encode("latin-1") + "München €\n".encode("cp1252"),
    "utf16.txt": "Ein Sensor kostet vier Euro fünfzig.".encode("utf-16"),
    "bom.md": b"\xef\xbb\xbf# Prices\r\n\r\nFour euro fifty.\r\n",
}
"""Files that are strange, and are read all the same."""


def one_sentence(said: str) -> None:
    assert said.endswith(".")
    assert "\n" not in said
    assert len(said) < 400
    assert "Traceback" not in said
    assert "/" not in said.replace("text/", "").replace("application/", "").replace("multipart/", "")


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_document_is_refused_at_once(site: Site, name: str) -> None:
    content, status, says = REFUSED[name]
    before = site.stored()
    found, problem = site.upload(name, content)
    assert (found, says in problem["detail"]) == (status, True), problem
    one_sentence(problem["detail"])
    assert site.stored() == before


def test_files_of_one_batch_fail_alone_and_the_others_are_ready(site: Site) -> None:
    """All at once: every broken file between good ones."""
    good = {f"good-{number}.md": GOOD.format(number=number).encode() for number in range(len(FAILING))}
    broken = {name: content for name, (content, _) in FAILING.items()}
    batch = [pair for both in zip(good.items(), broken.items(), strict=True) for pair in both] + list(ODD.items())
    with ThreadPoolExecutor(6) as pool:
        accepted = dict(zip([name for name, _ in batch], pool.map(lambda pair: site.upload(*pair), batch), strict=True))
    assert {status for status, _ in accepted.values()} == {202}, accepted
    documents = {name: site.settled(answer["document_id"]) for name, (_, answer) in accepted.items()}
    for name, (_, says) in FAILING.items():
        assert documents[name]["status"] == "failed", documents[name]
        assert says in documents[name]["last_error"]
        one_sentence(documents[name]["last_error"])
        assert documents[name]["chunks"] == 0
    for name in (*good, *ODD):
        assert (documents[name]["status"], documents[name]["last_error"]) == ("ready", None), documents[name]
    _, found = site.ask("GET", "/v1/bots/docs/search?limit=20&q=What+does+a+sensor+cost+a+month")
    assert any("euro a month" in passage["text"] for passage in found["items"])
    _, secret = site.ask("GET", "/v1/bots/docs/search?limit=20&q=root+bin+bash+daemon")
    assert not any("root:" in passage["text"] for passage in secret["items"])


def test_text_in_mixed_encodings_is_read_as_far_as_it_goes(site: Site) -> None:
    accepted = {name: site.upload(f"again-{name}", content)[1]["document_id"] for name, content in ODD.items()}
    texts = {}
    for name, document_id in accepted.items():
        assert site.settled(document_id)["status"] == "ready"
        texts[name] = " ".join(site.chunks(document_id))
    assert "vier Euro fünfzig" in texts["utf16.txt"]
    assert "Four euro fifty." in texts["bom.md"]
    assert "Euro" in texts["mixed.txt"]
    assert texts["line.txt"].count("fifty") >= 62_500
    assert not any("\0" in text or "\ufeff" in text for text in texts.values())


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "in chunks"])
def test_a_file_of_200_mb_is_refused_before_it_is_there(site: Site, declared: bool) -> None:
    peak, before = site.peak_kb(), site.stored()

    def endless() -> Iterator[bytes]:
        yield form("big.txt", b"", "text/plain").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        for _ in range(200 * MB >> 16):
            yield b"word " * 13_107 + b"\n"

    headers = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}
    if declared:
        headers["Content_Length"] = str(200 * MB)
    else:
        headers["Transfer_Encoding"] = "chunked"
    status, problem = site.ask("POST", DOCUMENTS, endless(), **headers)
    assert status == 413, problem
    one_sentence(problem["detail"])
    assert site.stored() == before
    assert site.peak_kb() - peak < 60 << 10
    assert site.ask("GET", "/readyz")[0] == 200


def test_a_form_that_is_cut_off_or_lies_about_itself_is_refused(site: Site) -> None:
    whole = form("cut.md", b"# Cut\n\nText.", "text/markdown")
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    for body, content_type in (
        (whole[: len(whole) // 2], kind),
        (whole, "multipart/form-data"),
        (whole, "multipart/form-data; boundary=other"),
        (b"", kind),
    ):
        before = site.stored()
        status, problem = site.ask("POST", DOCUMENTS, body, Content_Type=content_type)
        assert status in (400, 422), (content_type, problem)
        one_sentence(problem["detail"])
        assert site.stored() == before
