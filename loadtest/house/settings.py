"""What a pod of a phase is told by its manifests, as far as it is no address: tests/contract holds it against them."""

from collections.abc import Mapping
from typing import Any, Final

from infra.kubernetes.environment import DRAIN_S, GRACE_S, pooled
from infra.phases import Compute, Phase
from loadtest.stub.checks import KEY

SESSION_SECRET: Final = "of-a-house-that-is-only-asked-by-loads"  # noqa: S105 - of processes on loopback
MODEL: Final = "general"
"""The hosted model's name where the phase has no model of its own."""
# Questions by the hundred thousand: no budget of a day is what is measured.
NO_BUDGET: Final[Mapping[str, Any]] = {"tenant_daily_tokens": 10**12, "tenant_daily_usd": 1e9}


def pod(phase: Phase) -> Mapping[str, Any]:
    """Settings by name, in the manner of `app.settings`, without addresses."""
    said: dict[str, Any] = {
        "environment": "production",
        "phase": phase.name.value,
        "region": phase.fleet.regions[0],
        "log_json": "true",
        "session_secret": SESSION_SECRET,
    }
    if phase.fleet.compute is Compute.INSTANCE:
        return said
    said |= {"drain_s": DRAIN_S, "shutdown_grace_s": GRACE_S, "trace_sample": 1}
    if phase.vectors is not None:
        said["vectors_replicas"] = phase.vectors.copies
    return said | ({"database_pooled": "true"} if pooled(phase) else {})


def models(phase: Phase, url: str) -> Mapping[str, Any]:
    """Of the model's stub at `url` (up to `/v1`): the phase's own models, with the hosted one behind them."""
    hosted = {"url": url, "name": MODEL, "key": KEY}
    if phase.models is None:
        return {f"model_{name}": value for name, value in hosted.items()}
    own = {"model_url": url, "model_name": phase.models.model, "model_key": KEY}
    return own | {f"model_fallback_{name}": value for name, value in hosted.items()}
