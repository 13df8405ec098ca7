"""Results of the gate, as a run would have them."""

from dataclasses import replace
from typing import Any

from loadtest.results import (
    Check,
    EndpointResult,
    GateResult,
    Kind,
    Outcome,
    PartUse,
    Quantiles,
    ScenarioResult,
)

BEGAN = 1_795_312_800.0


def quantiles(p50_s: float = 0.4, count: int = 1_200, **more: Any) -> Quantiles:
    values = {"mean_s": p50_s * 1.1, "p95_s": p50_s * 2, "p99_s": p50_s * 3, "worst_s": p50_s * 5}
    return Quantiles(count=count, p50_s=p50_s, **values | more)


def check(name: str = "chat answer p50", seen: float | None = 0.4, limit: float = 1.0, unit: str = "s") -> Check:
    """Judged by what it says."""
    if seen is None:
        return Check(name, limit, None, unit, Outcome.NOT_JUDGED, "too few samples: 12 of 1,000")
    if seen > limit:
        return Check(name, limit, seen, unit, Outcome.FAILED, f"was {seen:g} {unit}, above {limit:g} {unit}")
    return Check(name, limit, seen, unit, Outcome.PASSED)


def scenario(name: str = "average", **changes: Any) -> ScenarioResult:
    endpoints = (
        EndpointResult(Kind.CHAT, 1_200, 3, 1_190, quantiles()),
        EndpointResult(Kind.STREAM, 1_200, 0, 1_200, quantiles(0.5), quantiles(0.1)),
        EndpointResult(Kind.LEAD, 40, 0, 40, quantiles(0.02, 40, p99_s=None)),
    )
    parts = (
        PartUse("api", 12.0, 0.1, 210.0),
        PartUse("worker", 6.0, 0.05, 180.0),
        PartUse("PostgreSQL", 3.0, 0.025, 90.0),
        PartUse("model stub", 2.4, 0.02, 60.0),
        PartUse("k6", 1.2, 0.01, 80.0),
    )
    found = ScenarioResult(
        name=name,
        factor=1.0,
        began=BEGAN,
        ended=BEGAN + 60,
        endpoints=endpoints,
        dropped=0,
        own_share=quantiles(0.012, 2_400),
        parts=parts,
        checks=(check(), check("stream answer p50", 0.5)),
        model_calls=2_400,
    )
    return replace(found, **changes)


def result(*scenarios: ScenarioResult, **changes: Any) -> GateResult:
    found = GateResult(
        phase="small",
        revision="0123abc",
        machine="a processor, 2 cores, Linux, load 1.0",
        replicas=3,
        began=BEGAN,
        ended=BEGAN + 60,
        backends={"relational": "PostgreSQL 15", "cache": "Redis 7"},
        scenarios=scenarios or (scenario(),),
        notes=("The vector engine is the embedded one.",),
    )
    return replace(found, **changes)
