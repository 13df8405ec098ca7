"""`trellis knowledge index`, beside the server that owns the vectors."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.support.service import TENANT, Service, running

BOT = "docs"


async def trellis(home: Path, *arguments: str, columns: int = 300) -> tuple[int, str]:
    """Exit code, and what was printed, on one line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "app.cli", "knowledge", "index", *arguments, "--bot", BOT, "--tenant", TENANT),
        env={**environment, "TRELLIS_HOME": str(home), "COLUMNS": str(columns)},
        stdout=PIPE,
        stderr=PIPE,
    )
    printed, errors = await process.communicate()
    return process.returncode or 0, " ".join((printed + errors).decode().split())


async def ready(service: Service) -> str:
    async with asyncio.timeout(60):
        while True:
            found = (await service.client.get(f"/v1/bots/{BOT}/index")).json()["generations"]
            if len(found) == 2 and found[1]["state"] == "ready" and found[1]["report"]:
                return str(found[1]["id"])
            await asyncio.sleep(0.05)


async def test_an_index_is_rebuilt_switched_and_rolled_back_by_commands_beside_the_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with running(home, knowledge=False) as service:
        ingestor, retriever = service.container.kit.ingestor, service.container.kit.ports.retriever
        await ingestor.put(TENANT, BOT, "lamp", "Lamp", "The lamp costs nine euro.")
        await ingestor.put(TENANT, BOT, "chair", "Chair", "The chair is green.")
        asked = {"questions": [{"question": "What does the lamp cost?", "slugs": ["lamp"]}]}
        assert (await service.client.put(f"/v1/bots/{BOT}/index/questions", json=asked)).status_code == 200
        code, said = await trellis(home, "rebuild", "--embedder", "wordllama-128")
        assert code == 0, said
        name = await ready(service)
        code, said = await trellis(home, "show")
        assert code == 0, said
        assert all(word in said for word in (name, "wordllama-l2-supercat-128", "2 of 2", "1.000 (now 1.000)"))
        assert name in (await trellis(home, "show", columns=80))[1], "it is what `switch` needs"
        assert await trellis(home, "switch", name) == (0, f"{name} answers for 'docs'.")
        await asyncio.sleep(1.1)
        assert (await service.client.get(f"/v1/bots/{BOT}/index")).json()["active"] == name
        assert (await retriever.search(TENANT, BOT, "What does the lamp cost?"))[0].slug == "lamp"
        assert await trellis(home, "rollback") == (0, "first answers for 'docs'.")
