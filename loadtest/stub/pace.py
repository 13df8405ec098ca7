"""How long a model takes: time to its first token and tokens a second, from a log-normal distribution each.

Times of real endpoints are skewed to the right: most answers near the median, a few far above it, none below nothing.
Lengths of answers are so, too: of the 19,366 of the Azure conversation trace (Patel et al., "Splitwise", ISCA 2024)
half have at most 129 tokens and one in twenty 451. Ours are shorter: the prompts ask for a few sentences.

What a GPU can do: one stream of answers is as fast as the weights are read, so at most memory bandwidth over the size
of the weights (Pope et al., "Efficiently scaling transformer inference", MLSys 2023). Qwen2.5-7B-Instruct-AWQ has
5.6 GB. By NVIDIA's data sheets an L4 (g6) reads 300 GB/s, an A10G (g5) 600, an L40S (g6e) 864, an H100 (p5) 3,350.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from types import MappingProxyType
from typing import Final

from infra.phases import Phase

_ANSWERS: Final = 5_000


@dataclass(frozen=True, slots=True)
class ModelPace:
    """One model's pace.

    Args:
        name: unique among the presets.
        first_s: median seconds to the first token.
        first_sigma: of the logarithm of that time; the 95th percentile is `first_s * exp(1.645 * first_sigma)`.
        tokens_s: median tokens a second after the first.
        tokens_sigma: of the logarithm of that rate, drawn once an answer.
        answer_tokens: median tokens of an answer.
        answer_sigma: of the logarithm of that number.
        most_tokens: no answer is longer.
        tool_share: share of the requests offering tools whose first answer is a tool call, 0 to 1.
        requests_s: above so many requests a second the endpoint answers 429; 0: never.
        why: where the figures come from.
    """

    name: str
    first_s: float
    first_sigma: float
    tokens_s: float
    tokens_sigma: float
    answer_tokens: int
    answer_sigma: float = 0.0
    most_tokens: int = 400
    tool_share: float = 0.0
    requests_s: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        if min(self.first_s, self.first_sigma, self.tokens_sigma, self.answer_sigma, self.requests_s) < 0:
            raise ValueError(f"the pace '{self.name}' has a negative time, spread or rate")
        if self.tokens_s <= 0 or self.answer_tokens < 1 or self.most_tokens < self.answer_tokens:
            raise ValueError(f"the pace '{self.name}' writes no token, or fewer at most than in the median")
        if not 0 <= self.tool_share <= 1:
            raise ValueError(f"the pace '{self.name}' calls tools in a share that is not between 0 and 1")

    @property
    def answer_s(self) -> float:
        """Seconds of an answer with the median of each: what is left of a phase's p50 is ours."""
        return self.first_s + (self.answer_tokens - 1) / self.tokens_s


FAST: Final = ModelPace("fast", 0.06, 0.35, 250.0, 0.15, 24, 0.3, 80, why="No model's: for tests of the gate itself.")
HOSTED: Final = ModelPace(
    "hosted",
    first_s=0.3,
    first_sigma=0.3,
    tokens_s=150.0,
    tokens_sigma=0.2,
    answer_tokens=60,
    answer_sigma=0.45,
    why="A small hosted model: first token after 0.3 s, then 150 tokens a second, as aiyd.com/ai-model-speed-benchmark "
    "lists for Claude Haiku 4 (Gemini Flash: 0.2 s and 180). Spreads are assumed.",
)
OWN_L4: Final = ModelPace(
    "own-l4",
    first_s=0.25,
    first_sigma=0.3,
    tokens_s=45.0,
    tokens_sigma=0.15,
    answer_tokens=36,
    answer_sigma=0.4,
    why="A 7B model in four bits on an L4: 300 GB/s over 5.6 GB are 54 tokens a second at most; a prompt of a thousand "
    "tokens takes a quarter of a second at half of its 121 TFLOPS.",
)
OWN_L40S: Final = ModelPace(
    "own-l40s",
    first_s=0.1,
    first_sigma=0.3,
    tokens_s=130.0,
    tokens_sigma=0.15,
    answer_tokens=36,
    answer_sigma=0.4,
    why="A 7B model in four bits on an L40S (g6e): 864 GB/s over 5.6 GB are 154 tokens a second at most. An L4 (g6) or "
    "an A10G (g5) cannot keep the median of 0.5 s for whole answers of 36 tokens: their weights alone take 0.65 s and "
    "0.33 s to be read 35 times, and the prompt 0.25 s and 0.2 s.",
)
OWN_H100: Final = ModelPace(
    "own-h100",
    first_s=0.05,
    first_sigma=0.3,
    tokens_s=220.0,
    tokens_sigma=0.15,
    answer_tokens=28,
    answer_sigma=0.35,
    why="A 7B model in four bits on an H100 (p5), and answers of one or two sentences: a median of 0.3 s for a whole "
    "answer leaves no other room. An L4 (g6) takes 0.25 s to its first token.",
)
PACES: Final[Mapping[str, ModelPace]] = MappingProxyType(
    {pace.name: pace for pace in (FAST, HOSTED, OWN_L4, OWN_L40S, OWN_H100)}
)

_MACHINES: Final[Mapping[str, ModelPace]] = MappingProxyType({"g6.xlarge": OWN_L4, "g6e.xlarge": OWN_L40S})


def pace_of(phase: Phase) -> ModelPace:
    """Of the models that the phase pays for: on the machine that it wants first for them, or a hosted one.

    Raises LookupError for a machine whose pace nobody worked out.
    """
    if phase.nodes is None or not phase.nodes.gpu:
        return HOSTED
    machine = phase.nodes.gpu[0]
    if machine not in _MACHINES:
        raise LookupError(
            f"'{machine}' serves the models of '{phase.name}', and loadtest/stub/pace.py has no pace of it."
        )
    return _MACHINES[machine]


class Draws:
    """Seeded times and lengths of one pace: the same seed gives the same sequence."""

    def __init__(self, pace: ModelPace, seed: int = 0) -> None:
        self.pace = pace
        self._random = random.Random(seed)

    def tokens(self) -> int:
        """Of the next answer, at least one."""
        drawn = self._near(self.pace.answer_tokens, self.pace.answer_sigma)
        return max(1, min(round(drawn), self.pace.most_tokens))

    def waits(self, pieces: int) -> Sequence[float]:
        """Seconds before each of an answer's pieces."""
        first = self._near(self.pace.first_s, self.pace.first_sigma)
        each = 1 / self._near(self.pace.tokens_s, self.pace.tokens_sigma)
        return [first, *[each] * (pieces - 1)]

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def _near(self, median: float, sigma: float) -> float:
        return median * math.exp(sigma * self._random.gauss(0.0, 1.0)) if sigma else median


def alone(pace: ModelPace, share: float) -> float:
    """Seconds that no more than this share of answers exceed where the model is everything (0.5: the median). Drawn."""
    draws = Draws(pace)
    times = [sum(draws.waits(draws.tokens())) for _ in range(_ANSWERS)]
    return quantiles(times, n=1_000)[round((1 - share) * 1_000) - 1]


def room(phase: Phase, pace: ModelPace) -> str:
    """What the phase's targets leave to us, in a sentence; another one where a target leaves nothing."""
    targets = phase.targets
    p50, p99 = alone(pace, 0.5), alone(pace, 0.01)
    promised = f"{targets.answer_p50_s:g} s"
    if targets.answer_p99_s is not None:
        promised += f" and {targets.answer_p99_s:g} s"
    said = (
        f"The model's pace '{pace.name}' alone takes {p50:.2f} s in the median and {p99:.2f} s in one answer of a "
        f"hundred; '{phase.name}' promises {promised}."
    )
    if p50 >= targets.answer_p50_s or p99 >= (targets.answer_p99_s or math.inf):
        return f"{said} With this model the phase cannot keep its promise for answers that no cache has."
    return said
