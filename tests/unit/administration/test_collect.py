"""Which files of a folder are added, and how they are called."""

from pathlib import Path

import pytest

from app.administration.documents import collect
from app.errors import InvalidInput


def write(at: Path, *names: str) -> None:
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text("text")


def test_files_are_called_after_their_way_from_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "guides/a.MD", "guides/b.txt", "skip.png", ".git/c.md", "guides/.d.md")
    assert [entry.slug for entry in collect([tmp_path])] == ["a", "guides-a", "guides-b"]


def test_files_that_differ_in_their_ending_alone_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, "plan.md", "plan.pdf")
    assert sorted(entry.slug for entry in collect([tmp_path])) == ["plan-md", "plan-pdf"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "one/plan.md", "two/plan.md")
    with pytest.raises(InvalidInput, match="both be called 'plan-md'"):
        collect([tmp_path / "one", tmp_path / "two"])


def test_nothing_to_add_is_said(tmp_path: Path) -> None:
    write(tmp_path, "picture.png")
    with pytest.raises(InvalidInput, match="no file to add"):
        collect([tmp_path])
    with pytest.raises(InvalidInput, match="no file or folder"):
        collect([tmp_path / "gone"])
