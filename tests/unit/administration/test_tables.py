"""What a terminal of 80 columns shows, and what is said of an evaluation set that cannot be read."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.administration.documents import listed
from app.administration.indexes import index
from app.errors import InvalidInput

SLUG = "guides-how-to-carry-leave-over"
DOCUMENT: dict[str, Any] = {
    "slug": SLUG,
    "title": "Leave",
    "status": "processing",
    "chunks": 12,
    "quarantined": 2,
    "last_error": None,
    "warnings": ["A table was left out."],
}


def test_a_document_is_listed_with_its_whole_slug_at_80_columns() -> None:
    console = Console(width=80)
    with console.capture() as caught:
        console.print(listed([DOCUMENT]))
    shown = caught.get()
    assert f" {SLUG} │ processing │     12 │ Leave " in shown
    assert "A table was left out." in shown
    assert "2 chunks carry" in shown


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ('[{"question": "Why?"}]', r"wrong at 0\.slugs: Field required"),
        ("{}", "wrong at the list"),
        ("[", "line 1"),
    ],
)
def test_an_evaluation_set_that_cannot_be_read_is_refused_with_the_place(
    tmp_path: Path, written: str, wrong: str
) -> None:
    file = tmp_path / "questions.json"
    file.write_text(written)
    with pytest.raises(InvalidInput, match=wrong):
        CliRunner().invoke(index, ["questions", str(file), "--bot", "docs"], catch_exceptions=False)
