"""What outcomes teach: a new score model, new thresholds. Both are stored as proposals; a person puts them in force."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.governance.models import Decision
from app.ids import new_id
from app.pack import Kit
from app.packs.leads.gather import PACK, policy_in_force
from app.packs.leads.models import OutcomeKind, ScoreModelRow
from app.packs.leads.repository import OutcomeRepository, ScoreModelRepository
from app.packs.leads.scoring.thresholds import Economics, fit_thresholds, value_per_lead
from app.packs.leads.scoring.train import TrainReport
from app.principal import Principal, Role

MIN_OUTCOMES = 200
MIN_CONVERTED = 20


@dataclass(frozen=True, slots=True)
class Proposal:
    """Proposed thresholds beside those in force. Values are per lead, in contact costs, on the same outcomes."""

    version: int
    outcomes: int
    converted: int
    before: dict[str, float]
    after: dict[str, float]
    value_before: float
    value_after: float


class Learning:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def propose(self, principal: Principal, capacity_share: float, economics: Economics) -> Proposal:
        """Fits thresholds on decided leads whose outcome is known and stores them as a proposed version.

        Raises InvalidInput below 200 outcomes or 20 conversions: a fit on fewer is noise.
        """
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            scores, converted = await self._history(session, principal.tenant_id)
            _, current = await policy_in_force(session, principal.tenant_id)
        _check_enough(converted)
        fitted = fit_thresholds(scores, converted, capacity_share, economics)
        after = current.model_copy(update={"pursue": min(1.0, fitted.pursue), "escalate": min(1.0, fitted.escalate)})
        found = Proposal(
            version=0,
            outcomes=len(converted),
            converted=sum(converted),
            before=current.model_dump(),
            after=after.model_dump(),
            value_before=value_per_lead(scores, converted, current.pursue, economics),
            value_after=value_per_lead(scores, converted, after.pursue, economics),
        )
        evidence = {**asdict(found), "capacity_share": capacity_share, **asdict(economics)}
        evidence.pop("version")
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            policy = await self._kit.policies.propose(session, principal, PACK, found.after, evidence)
        return Proposal(**{**asdict(found), "version": policy.version})

    async def activate(self, principal: Principal, version: int) -> None:
        """Puts a proposed version in force, or an older one back. Needs an admin."""
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            await self._kit.policies.activate(session, principal, PACK, version)

    async def _history(self, session: AsyncSession, tenant_id: str) -> tuple[list[float], list[bool]]:
        """The score of each lead's first decision, with what became of the lead."""
        outcomes = await OutcomeRepository(session, tenant_id).latest()
        known = {row.lead_id: row.kind == OutcomeKind.CONVERTED for row in outcomes}
        first = await first_scores(session, tenant_id)
        pairs = [(first[lead_id], converted) for lead_id, converted in known.items() if lead_id in first]
        return [score for score, _ in pairs], [converted for _, converted in pairs]

    async def store(self, principal: Principal, report: TrainReport) -> int:
        """Stores the trained model as the next version, not in force. Returns the version."""
        principal.require(Role.ADMIN)
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            models = ScoreModelRepository(session, principal.tenant_id)
            version = await models.next_version()
            row = ScoreModelRow(
                id=new_id("score"),
                created_at=self._kit.ports.clock(),
                version=version,
                state="proposed",
                artifact=orjson.loads(report.model.to_json()),
                measures=asdict(report.metrics) if report.metrics else {},
                created_by=principal.actor,
            )
            models.add(row)
            await self._kit.audit.record(session, principal, "score_model.proposed", row.id, {"version": version})
        return version

    async def use(self, principal: Principal, version: int) -> None:
        """Puts a stored score model in force; 0 goes back to the rules."""
        principal.require(Role.ADMIN)
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            models = ScoreModelRepository(session, principal.tenant_id)
            row = await models.first(ScoreModelRow.version == version)
            if row is None and version != 0:
                raise InvalidInput(f"There is no score model {version}: `trellis leads models` lists them.")
            mine = ScoreModelRow.tenant_id == principal.tenant_id
            await session.execute(update(ScoreModelRow).where(mine).values(state="retired"))
            if row is not None:
                row.state = "active"
            await self._kit.audit.record(session, principal, "score_model.activated", str(version), {})


async def first_scores(session: AsyncSession, tenant_id: str) -> dict[str, float]:
    """The score that each lead had at its first decision."""
    query = (
        select(Decision.subject_id, Decision.score)
        .where(Decision.tenant_id == tenant_id, Decision.pack == PACK, Decision.score.is_not(None))
        .order_by(Decision.id.desc())
    )
    return {row.subject_id: row.score for row in await session.execute(query) if row.score is not None}


def _check_enough(converted: Iterable[bool]) -> None:
    known = list(converted)
    if len(known) < MIN_OUTCOMES or sum(known) < MIN_CONVERTED:
        raise InvalidInput(
            f"{len(known)} known outcomes with {sum(known)} conversions are too few to learn from: "
            f"record at least {MIN_OUTCOMES} with {MIN_CONVERTED} conversions."
        )
