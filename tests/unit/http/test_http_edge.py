"""Every answer: an id, headers, a problem where it failed, one log line, one count under its route's template."""

import io
import json
import logging
import re
from collections.abc import Iterator

import httpx2
import pytest
import structlog
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from app.errors import RateLimited, TrellisError
from app.governance.privacy import scrub
from app.http.install import install
from app.http.middleware import UNMATCHED
from app.http.problems import MEDIA_TYPE
from app.telemetry.logs import configure_logs
from tests.support.http_app import Container, client_of


class Broken(TrellisError):
    status, code, title = 502, "broken", "A part is broken"


def extra_app(container: Container) -> FastAPI:
    app = FastAPI()
    inner = APIRouter(prefix="/inner")

    @inner.get("/{thing}/x")
    async def nested(thing: str) -> str:
        return thing

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner, prefix="/{place}")
    app.include_router(outer, prefix="/o")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts():
            yield b"one"
            raise RuntimeError("in the middle")

        return StreamingResponse(parts())

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>hello</p>", headers={"Cache-Control": "max-age=60"})

    @app.get("/raise/{what}")
    async def raises(what: str) -> None:
        raise {
            "teapot": HTTPException(418, "Short and stout."),
            "forbidden": HTTPException(403),
            "limited": RateLimited("Slow down.", retry_after=2.4, plan="free"),
            "database": OperationalError("SELECT secret", {}, Exception("host db.internal refused")),
            "pool": PoolTimeout("QueuePool limit of size 5"),
            "broken": Broken("The mailer does not answer."),
        }[what]

    app.mount("/static", Starlette(routes=[Route("/{name}", lambda request: PlainTextResponse("file"))]))
    app.mount("/files", PlainTextResponse("file"))
    install(app, container)
    return app


@pytest.fixture
async def extra(container):
    async with client_of(extra_app(container)) as client:
        yield client


def requests_of(container: Container) -> dict[tuple[str, str, str], float]:
    family = next(family for family in container.metrics.registry.collect() if family.name == "trellis_http_requests")
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status_class"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_an_id_is_made_and_a_sane_one_is_kept(stranger):
    made = (await stranger.get("/healthz")).headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-z]{26}", made)
    assert made != (await stranger.get("/healthz")).headers["x-request-id"]
    kept = await stranger.get("/healthz", headers={"X-Request-Id": "trace-0815.a_b"})
    assert kept.headers["x-request-id"] == "trace-0815.a_b"


@pytest.mark.parametrize(
    "sent", ["short", "a" * 65, "with space in it", "a\r\nSet-Cookie: x", "<script>alert</script>"]
)
async def test_an_id_that_could_do_harm_is_replaced(app, sent):
    answer = []

    async def send(message):
        answer.append(message)

    headers = [(b"x-request-id", sent.encode())]
    scope = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b"", "headers": headers}
    await app(scope, None, send)
    assert dict(answer[0]["headers"])[b"x-request-id"].startswith(b"req_")


async def test_an_unforeseen_error_says_nothing_but_the_request_id(api):
    with structlog.testing.capture_logs() as logs:
        answer = await api.get("/v1/items/boom")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json() == {
        "type": "urn:trellis:problem:internal",
        "title": "Internal error",
        "status": 500,
        "detail": "Something went wrong on our side; the request id finds it in the log.",
        "instance": answer.headers["x-request-id"],
        "request_id": answer.headers["x-request-id"],
    }
    assert "hunter2" not in answer.text
    logged = next(line for line in logs if line["event"] == "unforeseen error")
    assert logged["log_level"] == "error"
    assert logged["exc_info"]


@pytest.mark.parametrize(
    ("url", "status", "code", "detail"),
    [
        ("/nowhere", 404, "not-found", "There is nothing at this address."),
        ("/raise/teapot", 418, "i-m-a-teapot", "Short and stout."),
        ("/raise/forbidden", 403, "forbidden", "Forbidden"),
        ("/raise/limited", 429, "rate-limited", "Slow down."),
        ("/raise/broken", 502, "broken", "The mailer does not answer."),
        ("/raise/database", 503, "unavailable", "The database does not answer at the moment: try again."),
        ("/raise/pool", 503, "unavailable", "The database does not answer at the moment: try again."),
    ],
)
async def test_every_error_is_a_problem(extra, url, status, code, detail):
    answer = await extra.get(url)
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["type"] == f"urn:trellis:problem:{code}"
    assert answer.json()["detail"] == detail
    assert answer.json()["instance"] == answer.headers["x-request-id"]


async def test_a_retryable_error_says_when_and_keeps_its_members(extra):
    answer = await extra.get("/raise/limited")
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["plan"] == "free"


async def test_a_wrong_method_names_the_right_ones(api):
    answer = await api.patch("/v1/items/page")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert answer.json()["type"] == "urn:trellis:problem:method-not-allowed"
    assert answer.json()["detail"] == "'PATCH' is not possible here: use GET."


async def test_the_members_of_an_error_never_overwrite_the_problem(container):
    app = FastAPI()

    @app.get("/x")
    async def x() -> None:
        raise Broken("Really.", status=200, title="All fine", type="urn:other")

    install(app, container)
    async with client_of(app) as client:
        answer = (await client.get("/x")).json()
    assert (answer["status"], answer["title"]) == (502, "A part is broken")
    assert answer["type"] == "urn:trellis:problem:broken"


async def test_security_headers_are_on_every_answer(stranger):
    for url in ("/healthz", "/nowhere", "/v1/items/who"):
        headers = (await stranger.get(url)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "strict-transport-security" not in headers


async def test_a_page_keeps_its_own_headers(extra):
    headers = (await extra.get("/page")).headers
    assert headers["cache-control"] == "max-age=60"
    assert "content-security-policy" not in headers
    assert headers["x-frame-options"] == "DENY"


async def test_https_is_asked_for_where_it_is_in_use(app):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://test") as client:
        assert "max-age" in (await client.get("/healthz")).headers["strict-transport-security"]


async def test_requests_are_counted_under_their_routes_template(api, extra, container):
    await api.get("/v1/items/forgot/17")
    await api.get("/v1/items/forgot/18")
    await api.post("/v1/items/forgot/18")
    with structlog.testing.capture_logs():
        await api.get("/v1/items/boom")
    await extra.get("/o/outer/here/inner/that/x")
    await extra.get("/static/logo.png")
    await extra.get("/files/a/b/c.txt")
    await extra.get("/made-up-by-a-scanner")
    await extra.request("BREW", "/page")
    counted = requests_of(container)
    assert {key: value for key, value in counted.items() if value} == {
        ("GET", "/v1/items/forgot/{item_id}", "2xx"): 2,
        ("POST", "/v1/items/forgot/{item_id}", "4xx"): 1,
        ("GET", "/v1/items/boom", "5xx"): 1,
        ("GET", "/o/outer/{place}/inner/{thing}/x", "2xx"): 1,
        ("GET", "/static/{name}", "2xx"): 1,
        ("GET", "/files/{path}", "2xx"): 1,
        ("GET", UNMATCHED, "4xx"): 1,
        ("other", "/page", "4xx"): 1,
    }


async def test_the_duration_is_observed_and_nothing_stays_in_flight(api, container):
    await api.get("/v1/items/page")
    sample = container.metrics.registry.get_sample_value
    labels = {"method": "GET", "route": "/v1/items/page"}
    assert sample("trellis_http_request_duration_seconds_count", labels) == 1
    assert sample("trellis_http_in_flight") == 0


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the process's real logging writes."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    out = io.StringIO()
    configure_logs(as_json=True, level="INFO", scrub=scrub, stream=out)
    yield out
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def ours(out: io.StringIO) -> list[dict]:
    """The lines, without those of the client that the test calls with."""
    logged = [json.loads(line) for line in out.getvalue().splitlines()]
    return [line for line in logged if line.get("logger") != "httpx2"]


async def test_one_line_is_logged_without_query_and_without_personal_data(api, secret, lines):
    answer = await api.get("/v1/items/forgot/ada@example.org?token=s3cret")
    (line,) = ours(lines)
    assert line["event"] == "request"
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["tenant"] == "acme"
    assert line["actor"].startswith("key_")
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/items/forgot/{item_id}", 200)
    assert line["bytes_out"] == len(answer.content)
    assert "ada@" not in line["path"]
    for private in ("ada@", "s3cret", secret):
        assert private not in json.dumps(line)


async def test_the_traceback_of_an_unforeseen_error_is_in_the_log(api, lines):
    answer = await api.get("/v1/items/boom")
    logged = ours(lines)
    assert [line["event"] for line in logged] == ["unforeseen error", "request"]
    assert {line["request_id"] for line in logged} == {answer.headers["x-request-id"]}
    assert "RuntimeError" in logged[0]["exception"]


async def test_probes_are_logged_below_info(stranger):
    with structlog.testing.capture_logs() as logs:
        await stranger.get("/healthz")
    assert [line["log_level"] for line in logs] == ["debug"]


async def test_the_next_request_inherits_nothing_in_its_log_lines(api, app):
    await api.get("/v1/items/page")
    assert structlog.contextvars.get_contextvars() == {}


async def test_an_answer_that_breaks_in_the_middle_breaks_the_connection(extra, container):
    with structlog.testing.capture_logs() as logs, pytest.raises(RuntimeError, match="in the middle"):
        await extra.get("/stream")
    assert [line["event"] for line in logs] == ["unforeseen error", "request"]
    assert container.metrics.http_in_flight._value.get() == 0


async def test_what_is_not_http_passes_untouched(app):
    seen = []

    async def receive():
        return {"type": "lifespan.startup"} if not seen else {"type": "lifespan.shutdown"}

    async def send(message):
        seen.append(message["type"])

    await app({"type": "lifespan", "state": {}}, receive, send)
    assert seen == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
