"""The command: what it writes, what it says, and how it ends."""

import asyncio
import html.parser
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio.from_thread import start_blocking_portal

from dashboards.render.__main__ import find, main
from dashboards.render.prometheus import Away, Prometheus, QueryFailed, Window
from tests.support.boards import END, START, board, panel
from tests.support.on_loopback import on_loopback

AT = ["--range", "10m", "--at", str(END), "--step", "10s"]


class Answering:
    """An API of Prometheus that answers `x` with a series, and refuses all else as Prometheus does."""

    def __init__(self) -> None:
        self.url = ""

    async def query(self, request: web.Request) -> web.Response:
        expr = request.query["query"]
        if expr == "garbage":
            return web.Response(text="<html>not me</html>", content_type="text/html")
        if expr in ("ALERTS", "count(prometheus_rule_group_rules > 0)"):
            return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})
        if expr != "x":
            return web.json_response({"status": "error", "error": f"parse error: {expr}"}, status=400)
        values = [[START + 10 * number, str(number / 100)] for number in range(61)]
        result = [{"metric": {"way": "<b>whole</b>"}, "values": values}]
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})

    async def exemplars(self, _request: web.Request) -> web.Response:
        labels = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
        found = [{"labels": labels, "value": "0.25", "timestamp": START + 100}]
        return web.json_response({"status": "success", "data": [{"seriesLabels": {}, "exemplars": found}]})

    async def config(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": {"yaml": "global:\n  scrape_interval: 30s\n"}})


@asynccontextmanager
async def serving() -> AsyncIterator[Answering]:
    served, app = Answering(), web.Application()
    app.router.add_get("/api/v1/query_range", served.query)
    app.router.add_get("/api/v1/query", served.query)
    app.router.add_get("/api/v1/query_exemplars", served.exemplars)
    app.router.add_get("/api/v1/status/config", served.config)
    async with on_loopback(app) as served.url:
        yield served


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving()) as served:
        yield served


def written(folder: Path, *panels: dict[str, Any]) -> str:
    path = folder / "board.json"
    path.write_text(json.dumps(board(*panels)))
    return str(path)


def test_a_board_becomes_a_picture_and_a_page(answering: Answering, tmp_path: Path) -> None:
    document = written(tmp_path, panel("timeseries", "x", unit="s", legend="{{way}}", exemplar=True))
    assert main([document, "--prometheus", answering.url, "--out", str(tmp_path / "out"), "--width", "900", *AT]) == 0
    assert (tmp_path / "out" / "test-board.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "test-board.html").read_text()
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in page
    assert "600 ms" in page, "the last value of the series"
    assert "&lt;b&gt;whole&lt;/b&gt;" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test-board.html", "test-board.png"]


def test_a_page_is_well_formed_and_loads_nothing(answering: Answering, tmp_path: Path) -> None:
    document = written(tmp_path, panel("timeseries", "x"), panel("stat", "no(", title="Broken & <odd>"), panel("text"))
    main([document, "--prometheus", answering.url, "--out", str(tmp_path), "--width", "900", *AT])
    page = (tmp_path / "test-board.html").read_text()
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.images == 4
    assert all(address.startswith("data:image/png;base64,") for address in reader.addresses)
    assert "http://" not in page
    assert "https://" not in page


class Reader(html.parser.HTMLParser):
    """Fails where an element is closed that is not open; counts images, keeps addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_query_that_failed_is_listed_at_the_end_and_the_rest_is_drawn(
    answering: Answering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = written(tmp_path, panel("stat", "no(", title="Broken"), panel("stat", "x"))
    assert main([document, "--prometheus", answering.url, "--out", str(tmp_path), "--width", "900", *AT]) == 1
    assert "1 query failed:\n  test-board: Broken: parse error: no(" in capsys.readouterr().err
    assert "parse error: no(" in (tmp_path / "test-board.html").read_text()


def test_nobody_at_the_address_is_one_sentence_and_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = written(tmp_path, panel("stat", "x"))
    assert main([document, "--prometheus", "http://127.0.0.1:1", "--out", str(tmp_path / "out"), *AT]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Nothing was drawn: no Prometheus answers at http://127.0.0.1:1")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_something_else_at_the_address_is_said(
    answering: Answering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = written(tmp_path, panel("stat", "garbage"))
    assert main([document, "--prometheus", answering.url, "--out", str(tmp_path / "out"), *AT]) == 2
    assert "not as Prometheus does" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--range", "soon"], "'soon' is no duration"),
        (["--width", "10"], "from 800 to 6000 pixels"),
        (["--set", "pack"], "'pack' is no NAME=VALUE"),
        (["--at", "now"], "give Unix seconds"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_unknown_board_is_refused_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(board(panel("stat", "x"))))
    (tmp_path / "two.json").write_text("[1")
    with pytest.raises(ValueError, match="there is no dashboard 'three'; there are: one, two"):
        find("three", tmp_path)
    assert [found.uid for found in find("one", tmp_path)] == ["test-board"]
    with pytest.raises(ValueError, match=r"two\.json is no dashboard"):
        find("all", tmp_path)


async def test_a_query_that_takes_too_long_fails_and_others_do_not() -> None:
    async def query(request: web.Request) -> web.Response:
        if request.query["query"] == "slow":
            await asyncio.Event().wait()
        return web.json_response({"status": "success", "data": {"resultType": "scalar", "result": [1, "7"]}})

    app = web.Application()
    app.router.add_get("/api/v1/query", query)
    async with on_loopback(app, leaves_s=0.1) as address, Prometheus(f"{address}/", timeout_s=0.3) as prometheus:
        with pytest.raises(QueryFailed, match=r"no answer within 0\.3 s"):
            await prometheus.at("slow", 1)
        assert [found.points for found in await prometheus.at("quick", 1)] == [[(1.0, 7.0)]]
        # What is not there is a page of words and no answer of Prometheus's.
        with pytest.raises(Away, match="not as Prometheus does"):
            await prometheus.over("x", Window(0, 1, 1))
