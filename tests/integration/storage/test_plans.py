"""No list of the API reads or sorts a whole table: the server's own plans, over a million leads and 50,000 of the rest.

The statements are those that the API's requests sent, under the app's login with the row policies in force.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio
from sqlalchemy import event, text

from app.agent.models import ApprovalState, EffectState
from app.container import Parts, open_container
from app.governance.models import DecisionState
from app.knowledge.models import DocumentStatus
from app.main import create_app
from app.packs.claims.models import ClaimState
from app.packs.claims.repository import ClaimFilter, OwnRecords
from app.packs.leads.models import LeadStatus
from app.packs.teams.health import HealthState
from app.packs.treatments.models import ReservationState, ResultState, RunState
from app.settings import load_settings
from app.storage.base import Base
from app.storage.db import Database
from tests.support.databases import Addresses
from tests.support.postgres import PostgresServer
from tests.support.rows import BIG, NAME, fill, numbered, one_of

# A million where most rows are; every index is of the same kind, and so is every plan. Bots are made by hand.
ROWS = {"leads": 1_000_000, "bots": 2_000}
OTHERS = 50_000
# What one node of a plan may read: a page, and what a filter that no index has leaves out on the way.
MOST_READ = 10_000
FEW = "g / 10 % 5 * 10 + 10"
OF_A_RUN = {"run_id": numbered(FEW)}
TABLES: Mapping[str, Mapping[str, str]] = {
    "approvals": {"state": one_of(*ApprovalState)},
    "bots": {},
    "chunks": {"document_id": numbered("g / 100 % 1000 * 10 + 10"), "status": "'ready'"},
    "claims": {
        "state": one_of("open", "submitted", "in_review", "approved", "paid", "rejected"),
        "incurred_on": "current_date - g % 700",
    },
    "decisions": {
        "state": one_of(*DecisionState),
        "pack": one_of("leads", "claims"),
        "action": one_of("reply", "route", "book"),
    },
    "documents": {"status": one_of(*DocumentStatus, every=100), "bot": one_of("other", "bot")},
    "effects": {"state": one_of(*EffectState)},
    "leads": {"status": one_of(*LeadStatus), "source": one_of("web", "fair", "mail")},
    "team_clients": {},
    "team_health_scores": {"client_id": numbered("g"), "state": one_of(*HealthState)},
    "team_questions": {"team": one_of("sales_intelligence", "client_health")},
    "treatment_allocations": OF_A_RUN,
    "treatment_catalogues": {},
    "treatment_customers": {"segment": one_of("old", "new", "lost")},
    "treatment_reservations": OF_A_RUN
    | {
        "state": one_of(*ReservationState),
        "treatment": one_of("call", "mail"),
        "customer_id": numbered("g / 10 % 1000 * 10 + 10"),
    },
    "treatment_results": OF_A_RUN
    | {"state": one_of(*ResultState, every=50), "treatment": one_of("call", "mail"), "customer_id": numbered("g")},
    "treatment_runs": {"state": one_of(*RunState)},
}
SAMPLES: Mapping[str, Any] = {
    "action": "book",
    "bot": "bot",
    "client": NAME.format(10),
    "created_after": "2026-01-01T00:00:00Z",
    "created_before": "2030-01-01T00:00:00Z",
    "customer": NAME.format(10),
    "day": "2026-11-20",
    "document_id": NAME.format(10),
    "email": "77 text",
    "name": "7",
    "pack": "leads",
    "q": "anything",
    "run_id": NAME.format(10),
    "segment": "new",
    "slug": "70 text",
    "source": "fair",
    "team": "sales_intelligence",
    "treatment": "call",
    "version": 10,
    "year": 2026,
}
"""A value for every parameter of a list; states are each one's own."""
STATES: Mapping[str, Sequence[str]] = {
    "/v1/approvals": list(ApprovalState),
    "/v1/bots/{bot}/documents": list(DocumentStatus),
    "/v1/claims": ["submitted"],
    "/v1/decisions": list(DecisionState),
    "/v1/effects": list(EffectState),
    "/v1/leads": [state for state in LeadStatus if state is not LeadStatus.ERASED],
    "/v1/teams/clients": list(HealthState),
    "/v1/treatments/reservations": list(ReservationState),
    "/v1/treatments/runs": list(RunState),
    "/v1/treatments/runs/{run_id}/results": list(ResultState),
}
# Answered by the vector index, not by rows.
ELSEWHERE = {"/v1/bots/{bot}/search"}
# A signed-in member's own; asked below the API.
OF_A_MEMBER = {"/v1/claims"}
CURSOR = NAME.format(30_000)
CURSORS: Mapping[str, Any] = {
    "/v1/bots/{bot}/documents/{document_id}/chunks": 5,
    "/v1/treatments/runs/{run_id}/queue": NAME.format(
        next(
            g
            for g in range(10, OTHERS, 10)
            if g // 10 % 5 == 0 and [*ResultState][g // 50 % len(ResultState)] == "queued"
        )
    ),
}
SMALL = "tenant7"
SMALL_TABLES = {"bots"}


@dataclass(frozen=True)
class Sent:
    request: str
    statement: str
    parameters: tuple[Any, ...]


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[Addresses]:
    found = postgres_server.new_database(migrated=True)
    yield found
    postgres_server.drop_database(found.name)


def fill_all(server: PostgresServer, database: str) -> None:
    for name, given in TABLES.items():
        table = Base.metadata.tables[name]
        fill(server, database, table, ROWS.get(name, OTHERS), given)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sent(
    database: Addresses, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Sent]]:
    """What every list of the API asks the database, with each of its filters, from the first page and a later one."""
    home = tmp_path_factory.mktemp("plans")
    settings = load_settings({}, home=home, database_url=database.app_url, auth=False, worker=False, log_level="ERROR")
    async with open_container(settings, Parts.SERVER) as container:
        # Only now: an app that starts would put a million made-up rows in its index.
        fill_all(postgres_server, database.name)
        heard: list[Sent] = []
        app, asked = create_app(container), ""

        def hear(_connection: Any, _cursor: Any, statement: str, given: Any, _context: Any, _many: bool) -> None:
            # What runs beside the requests asks of all tenants, or of none.
            if statement.startswith("SELECT") and BIG in given:
                heard.append(Sent(asked, statement, tuple(given)))

        event.listen(container.db.reader.sync_engine, "before_cursor_execute", hear)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://trellis") as client:
            for path, parameters in requests(app.openapi()):
                asked = f"{path} {parameters}"
                answer = await client.get(path, params=parameters)
                # What a made-up row holds may be no answer: it was read all the same.
                assert answer.status_code in (200, 500), (asked, answer.text)
        for name, wanted in (("claims", ClaimFilter()), ("paid claims", ClaimFilter((ClaimState.PAID,), 2026))):
            asked = name
            async with container.db.reading(BIG) as session:
                await OwnRecords(session, BIG, "10 text").page(wanted, CURSOR, 50)
        yield heard


def requests(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in spec["paths"].items():
        described = operations.get("get", {}).get("parameters", [])
        if path in ELSEWHERE | OF_A_MEMBER or "limit" not in {one["name"] for one in described}:
            continue
        place = path.format_map(SAMPLES)
        filters = [one["name"] for one in described if one["in"] == "query" and one["name"] not in ("cursor", "limit")]
        for chosen in [{}, *({name: value} for name in filters for value in values(path, name))]:
            yield place, chosen
            yield place, {**chosen, "cursor": CURSORS.get(path, CURSOR)}


def values(path: str, name: str) -> Sequence[Any]:
    return STATES[path] if name in ("state", "status") else [SAMPLES[name]]


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def read(node: Mapping[str, Any]) -> float:
    """Rows that a node of an executed plan looked at, those that it left out among them."""
    left_out = sum(node.get(key, 0) for key in ("Rows Removed by Filter", "Rows Removed by Index Recheck"))
    return float((node["Actual Rows"] + left_out) * node["Actual Loops"])


@pytest.mark.asyncio(loop_scope="module")
async def test_no_list_reads_or_sorts_a_whole_table(database: Addresses, sent: list[Sent]) -> None:
    db, wrong = Database(database.app_url), []
    for one, tenant in product({(one.statement, one.parameters): one for one in sent}.values(), (BIG, SMALL)):
        plan = await explain(db, one, tenant)
        worst = max(nodes(plan), key=read)
        scanned = [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        if set(scanned) & TABLES.keys() - SMALL_TABLES or read(worst) > MOST_READ:
            what = f"{scanned or worst['Node Type']} {worst.get('Index Name', '')} {read(worst):.0f} rows"
            wrong.append(f"{tenant}: {one.request}: {what}\n{one.statement}")
    await db.close()
    assert wrong == [], "\n".join(wrong)


@pytest.mark.asyncio(loop_scope="module")
async def test_every_filled_table_is_behind_a_list(sent: list[Sent]) -> None:
    assert {name for name in TABLES if any(f"FROM {name}" in one.statement for one in sent)} == set(TABLES)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_list_without_an_index_is_seen(database: Addresses, sent: list[Sent]) -> None:
    db = Database(database.app_url)
    query = "SELECT * FROM leads WHERE tenant_id = $1 ORDER BY company LIMIT 50"
    plan = await explain(db, Sent("", query, (BIG,)))
    await db.close()
    assert any("Seq Scan" in node["Node Type"] for node in nodes(plan))
    assert max(map(read, nodes(plan))) > MOST_READ


async def explain(db: Database, one: Sent, tenant: str = BIG) -> Mapping[str, Any]:
    parameters = tuple(tenant if value == BIG else value for value in one.parameters)
    async with db.reading(tenant) as session:
        connection = await session.connection()
        await connection.execute(text("SET LOCAL max_parallel_workers_per_gather = 0"))
        answer = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {one.statement}", parameters
        )
        found = answer.scalar_one()
    plans = orjson.loads(found) if isinstance(found, str) else found
    return dict(plans[0]["Plan"])
