"""Prometheus with a phase's own rules before what a stage runs, and the exporters of its data stores."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from alerts.generate import rule_files
from alerts.model import Pace, Site
from infra.phases import PHASES, PhaseName
from runbooks.drill.rehearsal import PACE
from tests.support.components import require
from tests.support.exporters import asking_for_all, exporting, until_it_says
from tests.support.monitoring import listening, running_alertmanager, running_prometheus
from tests.support.postgres import USER, Node
from tests.support.redis import RedisServer
from tests.support.server import free_port


@asynccontextmanager
async def watched(
    folder: Path,
    phase: PhaseName,
    jobs: Mapping[str, Sequence[int]],
    pace: float = PACE,
    rules_of: Callable[[Site], Mapping[str, str]] = rule_files,
    scrape_s: float = 1.0,
) -> AsyncIterator[str]:
    """The address of a Prometheus that scrapes `jobs` (ports of this machine) and has the phase's rules.

    Args:
        rules_of: which of them; else those that each region's own Prometheus has.
    """
    site = Site(PHASES[phase], pace=Pace(pace))
    async with listening() as webhook:
        with running_alertmanager(folder / "alertmanager", webhook.url) as alertmanager:
            ports = {"prometheus": free_port(), "alertmanager": alertmanager}
            with running_prometheus(folder / "prometheus", site, ports, scrape_s, jobs, rules_of) as port:
                yield f"http://127.0.0.1:{port}"


@contextmanager
def postgres_exporter(folder: Path, server: Node, database: str = "postgres") -> Iterator[int]:
    """The port of an exporter before the server, which may go and come back."""
    program, port = require("postgres_exporter"), free_port()
    where = f"postgresql://{USER}@127.0.0.1:{server.port}/{database}?sslmode=disable"
    command = [program, f"--web.listen-address=127.0.0.1:{port}", *asking_for_all(program)]
    with exporting(command, folder, env={"DATA_SOURCE_NAME": where}):
        until_it_says(port, "pg_up 1")
        yield port


@contextmanager
def redis_exporter(folder: Path, server: RedisServer) -> Iterator[int]:
    """The port of an exporter before one node."""
    program, port = require("redis_exporter"), free_port()
    asked = ["-redis.addr", f"redis://127.0.0.1:{server.port}", "-web.listen-address", f"127.0.0.1:{port}"]
    with exporting([program, *asked], folder):
        until_it_says(port, "redis_up 1")
        yield port
