"""What replicas can keep of a phase's promise: where the model alone takes longer, no number of replicas is enough.

Such a target would end every search at its first rate, and say nothing of the replica. It is counted as the model's own
time with the replica's share on top, and is told beside what was found: the gate holds the promise as it is.
"""

import math
from dataclasses import replace

from infra.phases import Phase
from loadtest.capacity.judge import SLOW_SHARE
from loadtest.stub.pace import ModelPace, alone


def for_replicas(phase: Phase, pace: ModelPace) -> Phase:
    """The phase with the targets that its replicas are judged by. A p99 that the model leaves is not counted: slow
    answers are counted against the promise itself."""
    targets, median = phase.targets, alone(pace, 0.5)
    p50 = targets.answer_p50_s if median < targets.answer_p50_s else median + targets.own_share_p99_s
    p99 = targets.answer_p99_s if alone(pace, SLOW_SHARE) < (targets.answer_p99_s or math.inf) else None
    return replace(phase, targets=replace(targets, answer_p50_s=p50, answer_p99_s=p99))


def beyond(phase: Phase, pace: ModelPace) -> str:
    """What of the promise no replica can keep, a sentence; empty where there is nothing."""
    kept = for_replicas(phase, pace).targets
    left = [
        f"{name} of {promised:g} s ({alone(pace, share):.2f} s)"
        for name, promised, counted, share in (
            ("p50", phase.targets.answer_p50_s, kept.answer_p50_s, 0.5),
            ("p99", phase.targets.answer_p99_s, kept.answer_p99_s, SLOW_SHARE),
        )
        if promised != counted
    ]
    if not left:
        return ""
    return (
        f"The model of '{phase.name}' (pace '{pace.name}') alone leaves the promised {' and '.join(left)}: no number "
        "of replicas keeps that. Take faster machines for it, or promise less, in infra/phases.py."
    )
