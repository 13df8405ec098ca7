"""`trellis knowledge` beside a running server: a folder of every kind of file, one of them broken."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docx import Document
from fpdf import FPDF
from typer.testing import CliRunner

from app.cli import cli
from app.errors import TrellisError
from tests.support.server import Server, free_port, trellis

HTML = "<html><head><title>Returns</title></head><body><h1>Returns</h1><p>Goods come back in 14 days.</p></body></html>"


@dataclass
class Served:
    """A running server, and the command line in this process: a process of its own for each would take seconds."""

    server: Server
    key: str

    def command(self, *arguments: str) -> tuple[int, str]:
        environment = {"TRELLIS_HOME": str(self.server.home), "TRELLIS_PORT": str(self.server.port), "COLUMNS": "160"}
        done = CliRunner().invoke(cli, ["knowledge", *arguments], env=environment)
        if isinstance(done.exception, TrellisError):
            return 1, done.exception.detail
        return done.exit_code, done.output


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("served"), free_port()
    trellis(home, port, "migrate")
    new = ("--label", "files", "--tier", "pro", "--tenant", "local", "--new-tenant", "Here")
    key = trellis(home, port, "keys", "create", *new).stdout.split()[1]
    (home / "local.key").write_text(key)
    with Server(home, port, TRELLIS_LOG_LEVEL="WARNING") as server:
        server.wait_ready()
        yield Served(server, key)


def folder(at: Path) -> Path:
    (at / "guides" / ".hidden").mkdir(parents=True)
    (at / "guides" / "set-up.md").write_text("# Set up\n\nHang the sensor at the height of a hand.\n")
    (at / "guides" / ".hidden" / "secret.md").write_text("not this one")
    (at / "notes.txt").write_text("The office is closed in the last week of the year.\n")
    (at / "returns.html").write_text(HTML)
    (at / "picture.png").write_bytes(b"\x89PNG")
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=12)
    pdf.multi_cell(0, 8, "The warranty of a gateway is thirty-six months from the day of delivery.")
    pdf.output(str(at / "warranty.pdf"))
    word = Document()
    word.add_heading("Shipping", 1)
    word.add_paragraph("Parcels leave the house on Tuesday and Friday.")
    word.save(str(at / "shipping.docx"))
    (at / "broken.pdf").write_bytes((at / "warranty.pdf").read_bytes()[:300])
    return at


def test_a_folder_is_added_repaired_and_taken_out_again(served: Served, tmp_path: Path) -> None:
    files = folder(tmp_path / "files")
    code, said = served.command("add", str(files), "--tag", "handbook")
    assert code == 1
    assert "6 files: 5 indexed, 0 unchanged, 1 failed" in said
    assert "broken.pdf" in said
    code, said = served.command("add", str(files), "--tag", "handbook")
    assert code == 1
    assert "0 indexed, 5 unchanged, 1 failed" in said
    (files / "broken.pdf").unlink()
    (files / "broken.md").write_text("# Broken\n\nNow it is whole.\n")
    (files / "notes.txt").write_text("The office is closed in August.\n")
    code, said = served.command("add", str(files), "--tag", "handbook")
    assert (code, "6 files: 2 indexed, 4 unchanged, 0 failed" in said) == (0, True), said
    asked = {
        "office+closed": "August",
        "warranty+gateway": "thirty-six",
        "parcels+leave": "Friday",
        "goods+come+back": "14 days",
    }
    for question, answer in asked.items():
        found = served.server.call(f"/v1/bots/docs/search?q={question}&tag=handbook", served.key)["items"]
        assert answer in found[0]["text"], (question, [one["text"] for one in found])
    check_one_by_one(served)


def check_one_by_one(served: Served) -> None:
    shown = json.loads(served.command("show", "guides-set-up")[1])
    assert (shown["status"], shown["title"], shown["tags"]) == ("ready", "Set up", ["handbook"])
    assert "guides-set-up" in served.command("list", "--status", "ready")[1]
    assert "notes is deleted" in served.command("delete", "notes")[1]
    assert served.command("show", "notes") == (1, "There is no document 'notes' in the knowledge of 'docs'.")
    assert "0 queued again" in served.command("retry")[1]
    code, said = served.command("retry", "guides-set-up")
    assert (code, "only a failed one is tried again" in said) == (1, True)


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\ntext\n")
    done = trellis(tmp_path, free_port(), "knowledge", "add", str(tmp_path / "a.md"), "--key", "trl_x", check=False)
    assert done.returncode == 1
    assert "Nothing answers at" in done.stderr
