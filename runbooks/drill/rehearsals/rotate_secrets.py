"""Secrets were found where they must not be: a key of the API, the database's password, the secret that signs sessions.

Two API processes and a worker read theirs from Secrets Manager (moto) as they start, as pods do.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import boto3  # type: ignore[import-untyped]

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Stage, Standing
from runbooks.drill.stages.aws import Aws, running_aws
from runbooks.drill.stages.fleet import Deployment, Fleet, fronted, ports, running_fleet
from runbooks.drill.stages.watched import watched
from tests.chaos.house import TENANT, environment, furnish
from tests.chaos.load import Client, Load, Try, codes, failed, session
from tests.support.databases import APP
from tests.support.postgres import USER, PostgresServer, open_server
from tests.support.server import ApiProcess, WorkerProcess

RATE: Final = 3.0
PASSWORD: Final = "found-in-a-paste"  # noqa: S105 - the one that the drill replaces
SIGNING: Final = "found-in-a-paste-too-and-long-enough"
API: Final = "api-blue"
OTHER: Final = "rival"
"""A tenant whose keys are not touched: its users' tokens end with the signing secret alone."""
_PHASE: Final = PhaseName.SMALL


@dataclass(kw_only=True)
class Rotating(Standing):
    """`found`: where the leaked key turns up. `handed`: where its holder reads the key that takes its place.
    `other`: the other tenant's key; `member`: a token of its user."""

    fleet: Fleet
    http: aiohttp.ClientSession
    found: Path
    handed: Path
    leaked: str
    other: str
    member: str = ""
    load: Load | None = None

    async def ask(self, _number: int) -> Try:
        """The holder of the key, as a load balancer lets them in."""
        key = self.handed.read_text().split()[1] if self.handed.exists() else self.leaked
        return await self.client(key).get("/v1/leads?limit=5")

    def client(self, key: str) -> Client:
        return Client(self.http, self.fleet.address(API), key)

    async def break_it(self) -> None:
        issued = await self.client(self.other).post("/v1/users/u-1/token", {})
        assert issued.ok, f"no token for a user: {issued}"
        self.member = issued.body["token"]
        assert (await self._as_member()).status != 401, "the user's token is not taken: nothing is shown"
        self.found.write_text(self.leaked)

    async def _as_member(self) -> Try:
        return await self.client(self.member).post("/v1/claims/chat", {"message": "What is left of my limits?"})

    async def lost(self) -> str:
        assert self.load is not None, "nobody asked anything"
        tries = self.load.tries
        old = await self._as_member()
        assert old.status == 401, f"a session of the old signing secret is still let in: {old}"
        refused = [each for each in tries if each.status >= 400]
        assert not refused, f"{len(refused)} of {len(tries)} requests were refused: {codes(refused)}"
        late = f"{failed(tries)} without an answer in time"
        return f"no request of {len(tries)} ({late}; users of the old sessions sign in again)"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        aws = stack.enter_context(running_aws(folder / "aws"))
        primary = stack.enter_context(open_server())
        found = await asyncio.to_thread(primary.new_database, True)
        owned = {"database_url": found.app_url, "database_owner_url": found.owner_url}
        house = await furnish(folder / "home", owned, tenants=(TENANT, OTHER))
        await asyncio.to_thread(with_password, primary)
        await asyncio.to_thread(in_aws, aws)
        settings = partial(read_settings, aws, f"127.0.0.1:{primary.port}/{found.name}")
        api = Deployment(ApiProcess, folder / "api", settings, ports(3), 2)
        worker = Deployment(WorkerProcess, folder / "worker", settings, ports(2), 1)
        fleet, kubectl = await enter(running_fleet({API: api, "worker": worker}))
        front = await enter(fronted(fleet, API))
        jobs = {"trellis-api": api.ports, "trellis-worker": worker.ports}
        prometheus = await enter(watched(folder, _PHASE, jobs))
        rotating = Rotating(
            environment={
                **aws.environment,
                "PHASE": _PHASE.value,
                "TENANT": TENANT,
                "API": front,
                "FOUND": str(folder / "found"),
                "HANDED": str(folder / "handed"),
                "LOGIN": APP,
                "PGHOST": "127.0.0.1",
                "PGPORT": str(primary.port),
                "PGDATABASE": found.name,
                "PGUSER": USER,
            },
            programs={"kubectl": kubectl},
            prometheus=prometheus,
            fleet=fleet,
            http=await enter(session()),
            found=folder / "found",
            handed=folder / "handed",
            leaked=house.key,
            other=house.keys[OTHER],
        )
        rotating.load = await enter(Load(rotating.ask, RATE))
        yield rotating


def with_password(primary: PostgresServer) -> None:
    """The app's login is asked for its password from now on; the others, which are the tests' own, are not."""
    rules = primary.data / "pg_hba.conf"
    rules.write_text(f"host all {APP} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    primary.do(f"ALTER ROLE {APP} PASSWORD '{PASSWORD}'", "SELECT pg_reload_conf()")


def in_aws(aws: Aws) -> None:
    """The secrets as the data stack makes them, and the key that encrypts the data."""
    kept = {
        "app": {"session_secret": SIGNING, "model_key": "unset"},
        "login": {"password": PASSWORD},
        "telemetry": {"pager-data": "unset", "chat": "unset"},
    }
    for name, values in kept.items():
        secret = ("--name", f"trellis-{_PHASE.value}/{name}", "--secret-string", json.dumps(values))
        aws.call("secretsmanager", "create-secret", *secret)
    key = aws.call("kms", "create-key")["KeyMetadata"]["KeyId"]
    aws.call("kms", "create-alias", "--alias-name", f"alias/trellis-{_PHASE.value}-data", "--target-key-id", key)


def read_settings(aws: Aws, database: str) -> Mapping[str, str]:
    """What a pod that starts now has in its environment."""
    where = aws.environment
    client = boto3.client(
        "secretsmanager",
        endpoint_url=aws.url,
        region_name=where["AWS_REGION"],
        aws_access_key_id=where["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=where["AWS_SECRET_ACCESS_KEY"],
    )
    app, login = (
        json.loads(client.get_secret_value(SecretId=f"trellis-{_PHASE.value}/{name}")["SecretString"])
        for name in ("app", "login")
    )
    chosen = {
        "log_level": "WARNING",
        "session_secret": app["session_secret"],
        "database_url": f"postgresql+asyncpg://{APP}:{login['password']}@{database}",
    }
    return environment(chosen)


REHEARSAL = Rehearsal(
    page="procedures/rotate-secrets",
    alert=None,
    needs=("postgres", "prometheus", "alertmanager"),
    stage=stage,
    wait_s=180.0,
)
