"""The boards of PostgreSQL, of Redis and of the telemetry itself over real servers, exporters, Prometheus and app.

What cannot run here is named, with the reason; everything else on the boards has to have data.
"""

import asyncio
import itertools
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import psycopg
import pytest
import redis

from alerts.model import Pace, Site
from dashboards.generate import OUT
from dashboards.render.__main__ import find
from dashboards.render.gather import PanelData, Request, gather
from dashboards.render.prometheus import Prometheus
from infra.phases import PHASES, PhaseName
from tests.support.components import require
from tests.support.exporters import asking_for_all, exporting, until_it_says
from tests.support.monitoring import running_alertmanager, running_prometheus
from tests.support.observed import BOT, KNOWN, local_key
from tests.support.postgres import USER, Node, free_port
from tests.support.processes import wait_until
from tests.support.server import Server
from tests.support.servers import Servers

PACE: Final = 60.0
WATCHED_S: Final = 5.0
STEP_S: Final = 1.0
TOLD: Final = "sum(rate(alertmanager_notifications_failed_total[4s] offset 2s)) > 0"
NO_QDRANT: Final = "no package manager here has Qdrant's server: its figures are typed from its source"
NO_COLLECTOR: Final = "the collector has a test of its own: its figures are captured there"
NO_BACKENDS: Final = "Loki and Tempo are no packages: their figures are typed from their source"
NOBODY: Final = "http://127.0.0.1:9/"
"""Whom Alertmanager tells: nobody answers, so that there are notifications that fail."""

ELSEWHERE: Final[Mapping[str, Mapping[str, str]]] = {
    "trellis-postgres": {},
    "trellis-stores": {
        "Qdrant failures": NO_QDRANT,
        "Slowest 1 % of calls": NO_QDRANT,
        "Failures by endpoint": NO_QDRANT,
        "Collections and points": NO_QDRANT,
        "Memory": NO_QDRANT,
        "Peers and their work": NO_QDRANT,
    },
    "trellis-telemetry": {
        "Through the collector": NO_COLLECTOR,
        "Queues of the collector": NO_COLLECTOR,
        "Decisions of tail sampling": NO_COLLECTOR,
        "What Loki and Tempo take": NO_BACKENDS,
    },
}
"""Panels that can show nothing here, by dashboard, and why."""
POOLER: Final = ("Clients that wait", "Server connections")
"""Panels of pgbouncer_exporter. Debian's package of the name is another program, and ends at once on PgBouncer 1.18."""


@dataclass(frozen=True)
class Watched:
    """`pooler`: whether PgBouncer's exporter runs. `boards`: what each board shows of the time under load, by uid."""

    pooler: bool
    boards: Mapping[str, Sequence[PanelData]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Iterator[Watched]:
    for component in ("prometheus", "alertmanager", "postgres_exporter", "redis_exporter"):
        require(component)
    folder = tmp_path_factory.mktemp("platform")
    with ExitStack() as stack:
        enter = stack.enter_context
        settings = enter(servers.settings())
        database = str(settings["database_owner_url"]).rpartition("/")[2]
        several = {
            "postgres": [enter(_of_postgres(node, database, folder)) for node in (servers.primary, servers.standby)],
            "redis": [enter(_of_redis(port, folder)) for port in _two_nodes(servers)],
            "pgbouncer": list(enter(_of_pgbouncer(servers.pooler.port, folder))),
        }
        enter(_limited(servers))
        server = enter(_app(folder / "app", settings))
        alertmanager = enter(running_alertmanager(folder / "alertmanager", NOBODY))
        ports = {"trellis-api": server.port, "prometheus": free_port(), "alertmanager": alertmanager}
        began = time.time()
        site = Site(PHASES[PhaseName.MEDIUM], pace=Pace(PACE))
        prometheus = enter(running_prometheus(folder / "prometheus", site, ports, several=several))
        address = f"http://127.0.0.1:{prometheus}"
        with _load(servers, database, server):
            time.sleep(WATCHED_S)
            wait_until(lambda: _holds(address, TOLD), "Alertmanager tries to tell somebody", timeout_s=60)
            shown = asyncio.run(_shown(address, began))
        yield Watched(bool(several["pgbouncer"]), shown)


@contextmanager
def _of_postgres(node: Node, database: str, folder: Path) -> Iterator[int]:
    program, port = require("postgres_exporter"), free_port()
    where = f"postgresql://{USER}@127.0.0.1:{node.port}/{database}?sslmode=disable"
    command = [program, f"--web.listen-address=127.0.0.1:{port}", *asking_for_all(program)]
    with exporting(command, folder / f"postgres-{port}", env={"DATA_SOURCE_NAME": where}):
        until_it_says(port, "pg_up 1")
        yield port


def _two_nodes(servers: Servers) -> Sequence[int]:
    return servers.redis.masters[0].port, servers.redis.replicas[0].port


@contextmanager
def _of_redis(node: int, folder: Path) -> Iterator[int]:
    port = free_port()
    command = [require("redis_exporter"), "-redis.addr", f"redis://127.0.0.1:{node}"]
    with exporting([*command, "-web.listen-address", f"127.0.0.1:{port}"], folder / f"redis-{port}"):
        until_it_says(port, "redis_up 1")
        yield port


@contextmanager
def _of_pgbouncer(bouncer: int, folder: Path) -> Iterator[Sequence[int]]:
    """Nothing where prometheus-community's exporter is not on PATH."""
    program = shutil.which("pgbouncer_exporter")
    if program is None:
        yield ()
        return
    port = free_port()
    where = f"postgres://{USER}@127.0.0.1:{bouncer}/pgbouncer?sslmode=disable"
    command = [program, f"--pgBouncer.connectionString={where}", f"--web.listen-address=127.0.0.1:{port}"]
    with exporting(command, folder / "pgbouncer"):
        until_it_says(port, "pgbouncer_up 1")
        yield (port,)


@contextmanager
def _limited(servers: Servers) -> Iterator[None]:
    """Every node may use so much memory, as in a deployment."""
    nodes = [node.client() for node in (*servers.redis.masters, *servers.redis.replicas)]
    for node in nodes:
        node.config_set("maxmemory", "64mb")
    try:
        yield
    finally:
        for node in nodes:
            node.config_set("maxmemory", "0")


@contextmanager
def _app(home: Path, settings: Mapping[str, Any]) -> Iterator[Server]:
    home.mkdir()
    chosen = {f"TRELLIS_{name.upper()}": str(value) for name, value in settings.items()}
    more = {"TRELLIS_LOG_LEVEL": "INFO", "TRELLIS_TRACE_SAMPLE": "1"}
    with Server(home, free_port(), "--sample", **chosen, **more) as server:
        server.wait_ready()
        yield server


@contextmanager
def _load(servers: Servers, database: str, server: Server) -> Iterator[None]:
    """A little of everything, until the block ends: statements past and through the pooler, keys, questions."""
    servers.primary.do("CREATE TABLE public.watched (id int PRIMARY KEY, said text)", database=database)
    over = threading.Event()
    work = (
        lambda: _statements(servers.primary.port, database, over),
        lambda: _statements(servers.pooler.port, database, over),
        lambda: _keys(servers, over),
        lambda: _questions(server, over),
    )
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def _statements(port: int, database: str, over: threading.Event) -> None:
    where = f"host=127.0.0.1 port={port} user={USER} dbname={database}"
    with psycopg.connect(where, autocommit=True, prepare_threshold=None) as connection:
        while not over.wait(0.1):
            connection.execute("INSERT INTO public.watched VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET said = 'b'")
            connection.execute("SELECT count(*) FROM public.watched")


def _keys(servers: Servers, over: threading.Event) -> None:
    with redis.RedisCluster(host="127.0.0.1", port=servers.redis.masters[0].port) as client:
        for number in itertools.count():
            client.set(f"watched-{number % 50}", "x" * 100, ex=5)
            client.get(f"watched-{number % 80}")
            if over.wait(0.02):
                return


def _questions(server: Server, over: threading.Event) -> None:
    key = local_key(server.home)
    for number in itertools.count():
        message = KNOWN if number % 2 else f"{KNOWN} I have worked here for {number} days."
        body = {"message": message, "history": []}
        server.call(f"/v1/bots/{BOT}/chat", key, json.dumps(body).encode(), Content_Type="application/json")
        if over.wait(0.2):
            return


def _holds(address: str, expr: str) -> bool:
    with urllib.request.urlopen(f"{address}/api/v1/query?{urlencode({'query': expr})}", timeout=10) as answer:
        return bool(json.load(answer)["data"]["result"])


async def _shown(address: str, began: float) -> Mapping[str, Sequence[PanelData]]:
    end = time.time()
    async with Prometheus(address) as prometheus:
        found = {}
        for uid in ELSEWHERE:
            (board,) = find(uid, OUT)
            chosen = {variable.name: ".*" for variable in board.variables}
            asked = Request(began, end, step=STEP_S, scrape=STEP_S, points=40, chosen=chosen)
            found[uid] = (await gather(board, prometheus, asked)).panels
        return found


def silent(panels: Sequence[PanelData], elsewhere: Container[str]) -> list[str]:
    """The queries without a figure, as `panel: legend`, of panels that are not expected to be so."""
    found = []
    for data in panels:
        with_data = {series.ref for series in data.series if any(value == value for _time, value in series.points)}
        without = [target for target in data.panel.targets if target.ref not in with_data]
        found += [f"{data.panel.title}: {target.legend}" for target in without if data.panel.title not in elsewhere]
    return found


@pytest.mark.parametrize("uid", ELSEWHERE)
def test_every_query_of_a_platform_board_has_data_from_real_servers(watched: Watched, uid: str) -> None:
    missing = set() if watched.pooler else set(POOLER)
    assert silent(watched.boards[uid], {*ELSEWHERE[uid], *missing}) == []
    assert [error for data in watched.boards[uid] for error in data.errors] == []


@pytest.mark.parametrize("uid", ELSEWHERE)
def test_what_is_said_to_have_no_data_here_is_on_the_board_and_has_none(watched: Watched, uid: str) -> None:
    panels = {data.panel.title: data for data in watched.boards[uid]}
    for title in ELSEWHERE[uid]:
        assert not any(series.points for series in panels[title].series), title
