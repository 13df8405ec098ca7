"""A decision's row explains itself, once for each trigger."""

from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from app.governance.decisions import DecisionRepository, explain, trigger_key
from app.governance.models import Decision, DecisionState
from app.ids import new_id
from app.storage.db import Database
from tests.conftest import StillClock

EVIDENCE = {"chunk_id": "chunk_1", "document_id": "doc_1", "title": "Prices", "score": 0.71, "quote": "From 49 EUR."}
STEPS = [
    {"tool": "crm_upsert", "effect": "write", "state": "done", "key": "k1", "duration_ms": 12.5, "detail": ""},
    {"tool": "send_mail", "effect": "write", "state": "failed", "key": "k2", "duration_ms": 3.0, "detail": "refused"},
]


def decision(clock: StillClock, tenant: str = "acme", trigger: str = "msg_1", **values: Any) -> Decision:
    return Decision(
        **{
            "id": new_id("dec"),
            "tenant_id": tenant,
            "created_at": clock.now,
            "pack": "leads",
            "subject_id": "lead_1",
            "trigger_id": trigger,
            "trigger_key": trigger_key(tenant, "leads", trigger),
            "action": "respond",
            "confidence": 0.824,
            "reason": "Asks for the price.",
        }
        | values
    )


async def stored(db: Database, row: Decision) -> Decision:
    async with db.operator_transaction() as session:
        DecisionRepository(session, row.tenant_id).add(row)
    async with db.operator_reading() as session:
        return await DecisionRepository(session, row.tenant_id).get(row.id)


async def test_a_decision_explains_itself(db: Database, clock: StillClock) -> None:
    row = await stored(
        db,
        decision(
            clock,
            inputs={"message": "How much?"},
            evidence=[EVIDENCE],
            answer={"text": "From 49 EUR."},
            tool_calls=STEPS,
            prompt_name="leads_decide",
            prompt_version=3,
            model="offline",
            provider="offline",
            route="cheap",
            experiment="tone",
            arm="short",
            policy_version=2,
            score_model_version="rules-1",
            score=0.4,
            tokens_in=900,
            tokens_out=80,
            cost_micros=1_250,
            duration_ms=61.0,
            model_ms=20.0,
        ),
    )
    found = explain(row)
    assert found.summary == "Decided: respond (82% sure) by offline, on 1 passage; did crm_upsert."
    assert found.decided_at == clock.now
    assert [item.model_dump() for item in found.evidence] == [EVIDENCE]
    assert [step.model_dump() for step in found.tool_calls] == STEPS
    assert found.versions.model_dump() == {
        "prompt_name": "leads_decide",
        "prompt_version": 3,
        "model": "offline",
        "provider": "offline",
        "route": "cheap",
        "experiment": "tone",
        "arm": "short",
        "policy_version": 2,
        "score_model_version": "rules-1",
    }
    assert found.cost.cost_usd == pytest.approx(0.00125)
    assert (found.cost.duration_ms, found.cost.model_ms, found.cost.own_ms) == (61.0, 20.0, 41.0)
    assert (found.inputs, found.answer) == ({"message": "How much?"}, {"text": "From 49 EUR."})


async def test_a_bare_decision_says_that_no_model_and_no_evidence_was_there(db: Database, clock: StillClock) -> None:
    found = explain(await stored(db, decision(clock)))
    assert found.summary == "Decided: respond (82% sure) by rules, without a model, without evidence."
    assert found.state == DecisionState.DECIDED
    assert (found.evidence, found.tool_calls, found.cost.cost_usd) == ([], [], 0.0)


async def test_misshapen_evidence_is_an_error_and_not_hidden(db: Database, clock: StillClock) -> None:
    row = await stored(db, decision(clock, evidence=[{"chunk_id": "chunk_1"}]))
    with pytest.raises(ValidationError):
        explain(row)


async def test_one_trigger_decides_once(db: Database, clock: StillClock) -> None:
    first = await stored(db, decision(clock))
    with pytest.raises(IntegrityError):
        await stored(db, decision(clock))
    await stored(db, decision(clock, tenant="other"))
    async with db.operator_reading() as session:
        repository = DecisionRepository(session, "acme")
        found = await repository.of_trigger("leads", "msg_1")
        assert found is not None
        assert found.id == first.id
        assert await repository.of_trigger("leads", "msg_2") is None
        assert {row.id for row in await repository.of_subject("leads", "lead_1")} == {first.id}
        assert await repository.of_subject("chat", "lead_1") == []


async def test_a_state_outside_the_list_is_refused_by_the_database(db: Database, clock: StillClock) -> None:
    with pytest.raises(IntegrityError):
        await stored(db, decision(clock, state="exploded"))
