"""What the rows of clients hold of a person: a contact's address, and words that may be theirs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.integrations.local_context import blank_words
from app.packs.teams.client_repository import ClientRepository, SignalRepository
from app.packs.teams.models import Client, ClientSignal


class ClientsOfPerson:
    """`PersonStore` of clients whose contact the person is.

    A client is a company and stays, with its name and its figures. What goes is the contact's address, the client's
    attributes, and the words of every message and ticket: nothing says whose they are, so all are taken as the
    contact's. The signals' keys stay: neither an import nor the CRM brings the same words back.
    """

    name = "clients"

    async def aliases(self, _session: AsyncSession, _tenant_id: str, _known: Aliases) -> set[Alias]:
        return set()

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        clients = await self._clients(session, tenant_id, known)
        rows = [plain(client) for client in clients]
        for batch in batches([client.id for client in clients]):
            said = await SignalRepository(session, tenant_id).all(
                ClientSignal.client_id.in_(batch), ClientSignal.text != ""
            )
            rows += [plain(signal) for signal in said]
        return rows

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        clients = await self._clients(session, tenant_id, known)
        rows = len(clients)
        for client in clients:
            client.email, client.attributes = "", {}
            if client.crm_id:
                rows += await blank_words(session, tenant_id, client.crm_id)
        await session.flush()
        for batch in batches([client.id for client in clients]):
            own = ClientSignal.tenant_id == tenant_id, ClientSignal.client_id.in_(batch), ClientSignal.text != ""
            done = await session.execute(update(ClientSignal).where(*own).values(text=""))
            assert isinstance(done, CursorResult)
            rows += done.rowcount
        return rows

    async def _clients(self, session: AsyncSession, tenant_id: str, known: Aliases) -> Sequence[Client]:
        found: list[Client] = []
        for batch in batches(known.of(Kind.EMAIL)):
            found += await ClientRepository(session, tenant_id).all(func.lower(Client.email).in_(batch))
        return found
