"""How many bytes a body may have where."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.middleware import Edge

UPLOADS = "/v1/bots/{bot}/documents"


def edge() -> Edge:
    limits = {"/v1/leads/batch": 2, UPLOADS: 3}
    nothing = cast(Any, None)
    room = {"gate": nothing, "metrics": nothing, "readiness": nothing}
    return Edge(nothing, **room, protected=("/v1/",), body_limit=1, body_limits=limits)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/leads/batch", 2),
        ("/v1/leads", 1),
        ("/v1/bots/docs/documents", 3),
        ("/v1/bots/docs/documents/", 1),
        ("/v1/bots/docs/documents/doc_1/retry", 1),
        ("/v1/bots/docs/more/documents", 1),
        ("/v1/bots/docs", 1),
        ("/other/v1/bots/docs/documents", 1),
    ],
)
def test_each_path_has_its_limit(path: str, limit: int) -> None:
    assert edge().limit_of(path) == limit


@given(st.text("abc/{}", max_size=20))
def test_only_one_part_stands_for_any(part: str) -> None:
    assert edge().limit_of(UPLOADS.replace("{bot}", part)) == (1 if "/" in part else 3)
