"""`trellis api` is one of several processes, so the embedded database, which has one, refuses it."""

import pytest

from app.cli import api
from app.errors import ConfigError


def test_the_api_alone_needs_a_database_that_workers_reach_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRELLIS_DATABASE_URL", raising=False)
    with pytest.raises(ConfigError, match="TRELLIS_DATABASE_URL"):
        api()
