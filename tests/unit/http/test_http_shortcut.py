"""An answer given at the edge is an answer like any other; what has none goes its usual way."""

from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from app.http.deps import CurrentUser
from app.http.install import install
from app.http.rates import RatePlan
from app.http.shortcut import PathPattern, Shortcut
from app.principal import Principal, Tier
from tests.support.http_app import Container, client_of, key_for

TEMPLATE = "/v1/bots/{bot}/chat"
KNOWN = b'{"text":"known"}'


class Question(BaseModel):
    message: str


class Peeked(list[tuple[str, str, Any]]):
    """Knows the answer to one message; remembers what it was asked."""

    def __call__(self, principal: Principal, bot: str, body: Any) -> bytes | None:
        self.append((principal.tenant_id, bot, body))
        return KNOWN if isinstance(body, dict) and body.get("message") == "known" else None


@pytest.fixture
def peeked() -> Peeked:
    return Peeked()


@pytest.fixture
def container(db, clock) -> Container:
    return Container(db, clock, plan=RatePlan(dict.fromkeys(Tier, 3)))


@pytest.fixture
def app(container, peeked) -> FastAPI:
    app = FastAPI()

    @app.post(TEMPLATE)
    async def chat(bot: str, body: Question, principal: CurrentUser) -> dict[str, str]:
        return {"text": f"{principal.tenant_id} asked {bot}: {body.message}"}

    install(app, container, body_limits={"/v1/bots/{bot}/chat": 200}, shortcuts=[Shortcut(TEMPLATE, peeked)])
    return app


def counted(container: Container, **labels: str) -> float | None:
    return container.metrics.registry.get_sample_value("trellis_http_requests_total", labels)


async def test_an_answer_at_hand_has_the_headers_and_the_count_of_its_route(api, container, peeked):
    known = await api.post("/v1/bots/support/chat", json={"message": "known"})
    new = await api.post("/v1/bots/support/chat", json={"message": "new"})
    assert (known.status_code, known.content) == (200, KNOWN)
    assert new.json() == {"text": "acme asked support: new"}
    assert peeked == [("acme", "support", {"message": "known"}), ("acme", "support", {"message": "new"})]
    assert set(known.headers) == set(new.headers)
    same = set(known.headers) - {"x-request-id", "content-length", "ratelimit"}
    assert {name: known.headers[name] for name in same} == {name: new.headers[name] for name in same}
    assert [answer.headers["ratelimit"].split(";")[1] for answer in (known, new)] == ["r=2", "r=1"]
    assert counted(container, route=TEMPLATE, method="POST", status_class="2xx") == 2


async def test_nobody_is_looked_up_for_who_may_not_ask(app, stranger, api, peeked):
    body = {"message": "known"}
    assert (await stranger.post("/v1/bots/support/chat", json=body)).status_code == 401
    assert [(await api.post("/v1/bots/support/chat", json=body)).status_code for _ in range(4)] == [200] * 3 + [429]
    assert len(peeked) == 3


@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"message": ', 400), (b'{"message": NaN}', 400), (b'{"message": "' + b"x" * 300 + b'"}', 413)],
)
async def test_a_body_that_no_route_would_see_is_not_looked_up(api, peeked, content, status):
    headers = {"content-type": "application/json"}
    assert (await api.post("/v1/bots/support/chat", content=content, headers=headers)).status_code == status
    assert peeked == []


async def test_only_a_post_of_json_for_a_whole_answer_is_looked_up(api, peeked):
    path, raw = "/v1/bots/support/chat", b'{"message": "known"}'
    assert (await api.put(path, json={"message": "known"})).status_code == 405
    assert (await api.post(path, content=raw, headers={"content-type": "text/plain"})).status_code == 415
    streamed = await api.post(path, json={"message": "known"}, headers={"accept": "text/event-stream"})
    assert streamed.json() == {"text": "acme asked support: known"}
    assert peeked == []


async def test_another_tenants_key_is_another_principal(app, db, clock, peeked):
    async with client_of(app, await key_for(db, clock, "globex")) as client:
        await client.post("/v1/bots/support/chat", json={"message": "known"})
    assert peeked[0][0] == "globex"


@given(part=st.text(st.characters(blacklist_characters="/", blacklist_categories=["Cs"]), max_size=20))
def test_a_pattern_gives_back_what_stands_in_its_braces(part):
    pattern = PathPattern(TEMPLATE)
    assert pattern.part(f"/v1/bots/{part}/chat") == part
    assert pattern.part(f"/v1/bots/{part}/x/chat") is None
    assert pattern.part(f"/v1/bots/{part}") is None
    assert pattern.part("/v1/bots/chat") is None
    assert PathPattern("/chat").part("/chat") == ""
    assert PathPattern("/chat").part(f"/chat/{part}") is None
