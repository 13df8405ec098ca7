"""Which traces are kept: all that failed, all that were slow, a share of the rest; and how much memory that takes.

The arithmetic, each step a function below. Traces begin as often as a phase's people ask:

    questions and leads of the phase's busiest hour (`Load.questions_s`, `Load.leads_s`); each of them makes `REQUESTS`
    requests (the console asks how things stand); all that times the phase's headroom.

Until a trace is decided, all its spans wait in memory: `WAIT_S`, the longest call of a model and what an app takes to
send its spans. `BURST` times what waits then is what there is room for.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from infra.phases import Phase

REQUESTS: Final = 4
WAIT_S: Final = 35
"""A model's answer may take 30 s (TRELLIS_MODEL_TIMEOUT_S), and an app sends its spans every 5 s."""
BURST: Final = 2
TRACE_BYTES: Final = 20_000
"""Of a trace in memory: some 15 spans of 1.3 kB."""
SAMPLER_BYTES: Final = 1 << 30
"""For waiting traces in one sampler."""
KEPT_A_SECOND: Final = 20
"""Of traces that neither failed nor were slow, at the proven load: 35 GB a day in Tempo if it lasted all day."""
MOST_PERCENT: Final = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What the samplers of a phase are told.

    Args:
        traces_s: traces that begin in a second at the proven load.
        waiting: traces that there is room for, in all samplers together.
        samplers: processes; two at least, where there are any, so that one may go.
        slow_ms: a trace that took longer is kept.
        percent: of the others.
    """

    traces_s: int
    waiting: int
    samplers: int
    slow_ms: int
    percent: float
    wait_s: float = WAIT_S

    @property
    def waiting_each(self) -> int:
        """Traces that one sampler has room for when another one is gone, in whole thousands."""
        return ceil(self.waiting / max(self.samplers - 1, 1) / 1000) * 1000

    @property
    def new_each(self) -> int:
        return ceil(self.traces_s / max(self.samplers - 1, 1))


def plan(phase: Phase) -> Plan:
    begins = traces_a_second(phase)
    waiting = begins * WAIT_S * BURST
    return Plan(
        traces_s=begins,
        waiting=waiting,
        samplers=ceil(waiting * TRACE_BYTES / SAMPLER_BYTES) + 1,
        slow_ms=slow_ms(phase),
        percent=min(MOST_PERCENT, round(100 * KEPT_A_SECOND / begins, 1)),
    )


def traces_a_second(phase: Phase) -> int:
    return ceil((phase.load.questions_s + phase.load.leads_s) * REQUESTS * (phase.headroom or 1))


def slow_ms(phase: Phase) -> int:
    """Over the p99 target; twice the median's where none is promised."""
    targets = phase.targets
    return round(1000 * (targets.answer_p99_s or 2 * targets.answer_p50_s))
