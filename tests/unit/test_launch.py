"""The data folder that a launch makes ready."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.launch import prepare_home
from app.settings import load_settings


@pytest.fixture
def _own_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_own_umask")
def test_what_is_written_in_a_folder_that_others_may_read_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("TRELLIS_HOME", str(tmp_path))
    prepare_home(load_settings())
    (tmp_path / "trellis.db").touch()
    (tmp_path / "vectors").mkdir()
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0, 0]
