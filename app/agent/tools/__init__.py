"""Tools: what an agent may do, who allows it, and that no write happens twice."""

from app.agent.tools.approvals import Approvals
from app.agent.tools.base import (
    Effect,
    OutcomeState,
    Tool,
    ToolCallPlan,
    ToolContext,
    ToolOutcome,
    ToolRegistry,
)
from app.agent.tools.executor import ToolExecutor
from app.agent.tools.ledger import EffectLedger
from app.agent.tools.policies import ToolPolicies

__all__ = [
    "Approvals",
    "Effect",
    "EffectLedger",
    "OutcomeState",
    "Tool",
    "ToolCallPlan",
    "ToolContext",
    "ToolExecutor",
    "ToolOutcome",
    "ToolPolicies",
    "ToolRegistry",
]
