"""Which score a tenant's leads get: the trained model that is active, else the rules."""

import orjson
from cachetools import TTLCache

from app.pack import Kit
from app.packs.leads.facts import Enrichment, ScoreFacts
from app.packs.leads.models import Lead, ScoreModelRow
from app.packs.leads.repository import ScoreModelRepository
from app.packs.leads.scoring.model import Score, ScoreModel
from app.packs.leads.scoring.rules import RuleSet

RULES_VERSION = "rules-1"
_FRESH_S = 5.0
_TENANTS = 1_000


class Scorer:
    """Holds each tenant's active model for up to 5 s, so that a new one is used soon without a query a lead."""

    def __init__(self, kit: Kit, rules: RuleSet) -> None:
        self._db = kit.ports.db
        self._rules = rules
        self._models: TTLCache[str, ScoreModel | None] = TTLCache(_TENANTS, _FRESH_S)

    async def score(self, tenant_id: str, lead: Lead, enrichment: Enrichment) -> ScoreFacts:
        if tenant_id not in self._models:
            self._models[tenant_id] = await self._load(tenant_id)
        return score_with(self._models[tenant_id], self._rules, lead, enrichment)

    async def _load(self, tenant_id: str) -> ScoreModel | None:
        async with self._db.reading(tenant_id) as session:
            row = await ScoreModelRepository(session, tenant_id).active()
        return stored_model(row) if row else None


def stored_model(row: ScoreModelRow) -> ScoreModel:
    """Raises BadScoreModel where the stored artifact is not one."""
    return ScoreModel.from_json(orjson.dumps(row.artifact), source=f"Score model {row.version} of this tenant")


def score_with(model: ScoreModel | None, rules: RuleSet, lead: Lead, enrichment: Enrichment) -> ScoreFacts:
    """The model's score, or the rules' where there is none."""
    attributes = {
        **lead.attributes,
        "source": lead.source,
        "country": lead.country,
        "company": lead.company,
        "phone": "given" if lead.phone else None,
        "email_kind": enrichment.email_kind,
    }
    signals = dict.fromkeys(enrichment.signals, True)
    score = model.score(attributes) if model else rules.score(attributes, signals)
    return _facts(score, model.version if model else RULES_VERSION)


def _facts(score: Score, version: str) -> ScoreFacts:
    return ScoreFacts(
        probability=score.probability,
        version=version,
        contributions=tuple((c.feature, c.value, round(c.log_odds, 4)) for c in score.contributions),
    )
