"""Every collection of Qdrant is gone; last night's snapshot comes back, and what came since from the documents.

No package here has a Qdrant server: a fake with its REST interface stands in for it, over the real embedded engine.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Stage, Standing
from runbooks.drill.stages.aws import REGION, Aws, running_aws
from runbooks.drill.stages.service import served
from runbooks.drill.stages.watched import watched
from tests.chaos.house import TENANT, environment, furnish
from tests.chaos.load import Client, session
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.observed import until
from tests.support.server import Server, trellis

BOT: Final = "docs"
QUESTIONS: Final = (
    "How long is the warranty on a sensor, and what does it cover?",
    "What does the Operate plan cost?",
    "How many days may a blaugurke be kept in the cold room?",
)
"""The last is answered by the document that came after the snapshot alone."""
NEWEST: Final = {
    "slug": "blaugurken",
    "title": "Blaugurken",
    "text": "# Blaugurken\n\nA blaugurke may be kept in the cold room for eleven days at four degrees.\n",
}
BUCKET: Final = f"trellis-small-backups-123456789012-{REGION}"
WAIT_S: Final = 120.0


@dataclass(kw_only=True)
class Restoring(Standing):
    """`before`: the documents that each question was answered from."""

    fake: FakeQdrant
    client: Client
    before: Mapping[str, frozenset[str]]

    async def break_it(self) -> None:
        await self.fake.forget()

    async def lost(self) -> str:
        documents = {name for found in self.before.values() for name in found}
        after = await cited(self.client, "again")
        missing = {question: found - after[question] for question, found in self.before.items()}
        assert documents, "no question was answered from a document: nothing is shown"
        assert not any(missing.values()), f"documents that are not found again: {missing}"
        listed = await self.client.get(f"/v1/bots/{BOT}/documents?limit=200")
        count = len(listed.body["items"])
        return f"nothing of {count} documents (one of them newer than the snapshot)"


async def cited(client: Client, mark: str) -> Mapping[str, frozenset[str]]:
    """The slugs that each question's answer names. `mark` makes it another question, whose answer is not kept."""
    found = {}
    for question in QUESTIONS:
        answer = await client.post(f"/v1/bots/{BOT}/chat", {"message": f"{question} ({mark})", "history": []})
        assert answer.ok, f"'{question}' is not answered: {answer.status} {answer.code}"
        found[question] = frozenset(str(one["title"]) for one in answer.body["citations"])
    return found


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        fake = await enter(FakeQdrant())
        house = await furnish(folder / "home", {"vectors_url": fake.url, "vectors_key": KEY}, bots=(BOT,))
        service, kubectl = await enter(served(house.home, environment(house.settings)))
        server = service.server
        aws = stack.enter_context(running_aws(folder / "aws"))
        await asyncio.to_thread(last_night, aws, server, folder / "taken", service.settings)
        client = Client(await enter(session()), service.server.address, house.key)
        await add_newest(client)
        prometheus = await enter(watched(folder, PhaseName.POC, {"trellis-api": [server.port]}))
        yield Restoring(
            environment={
                **aws.environment,
                "BACKUPS": BUCKET,
                "BOT": BOT,
                "TENANT": TENANT,
                "VECTORS": fake.url,
                "VECTORS_KEY": KEY,
                "SNAPSHOTS": str(folder / "fetched"),
            },
            programs={"kubectl": kubectl},
            prometheus=prometheus,
            fake=fake,
            client=client,
            before=await cited(client, "before"),
        )


def last_night(aws: Aws, server: Server, taken: Path, settings: Mapping[str, str]) -> None:
    """A snapshot in the bucket, as the CronJob leaves it."""
    trellis(server.home, server.port, "knowledge", "snapshot", "create", "--folder", str(taken), check=True, **settings)
    where = ("--create-bucket-configuration", f"LocationConstraint={REGION}")
    aws.call("s3api", "create-bucket", "--bucket", BUCKET, *where)
    for file in taken.rglob("*.*"):
        key = f"qdrant/{file.relative_to(taken)}"
        aws.call("s3api", "put-object", "--bucket", BUCKET, "--key", key, "--body", str(file))


async def add_newest(client: Client) -> None:
    """Returns when it can be found."""
    sent = await client.post(f"/v1/bots/{BOT}/documents", NEWEST, Idempotency_Key="newest")
    assert sent.ok, f"the document is refused: {sent}"

    async def ready() -> bool:
        found = await client.get(f"/v1/bots/{BOT}/documents/{sent.body['document_id']}")
        return bool(found.body["status"] == "ready")

    await until(ready, "the newest document is ready", WAIT_S)


REHEARSAL = Rehearsal(
    page="procedures/qdrant-restore", alert=None, needs=("prometheus", "alertmanager"), stage=stage, wait_s=180.0
)
