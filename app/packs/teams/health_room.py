"""Everything of client health, put together for the pack."""

from dataclasses import dataclass

from app.pack import Kit
from app.packs.teams.clients import ClientService
from app.packs.teams.health_jobs import HealthJobs
from app.packs.teams.sample_clients import SampleClients
from app.packs.teams.scoring import Scoring
from app.packs.teams.sentiment import SentimentLexicon
from app.packs.teams.syncing import Syncer


@dataclass(frozen=True, slots=True)
class HealthRoom:
    service: ClientService
    jobs: HealthJobs
    sample: SampleClients

    @classmethod
    def of(cls, kit: Kit) -> "HealthRoom":
        ports = kit.ports
        syncer = Syncer(ports.db, ports.clock, kit.metrics, ports.code, ports.accounts)
        scoring = Scoring(kit, syncer, SentimentLexicon())
        service = ClientService(kit, scoring)
        return cls(service, HealthJobs(kit, scoring), SampleClients(kit, service))
