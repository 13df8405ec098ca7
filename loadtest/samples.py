"""What became of each request, and the figures of many. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from loadtest.plan import P99_SAMPLES, SHARES
from loadtest.results import EndpointResult, Kind, Quantiles


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times in seconds; `began` since 1970.

    Args:
        first_token_s: until the first token of a streamed answer; None of what is not streamed.
        own_s: without the model calls; None of what is no question.
        status: 0 where nothing was answered. `code` says why it failed, empty where it did not.
        cache: which cache answered a question, `none` for a model.
    """

    kind: Kind
    began: float
    answer_s: float
    status: int
    code: str = ""
    first_token_s: float | None = None
    own_s: float | None = None
    cache: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300 and not self.code

    @property
    def failure(self) -> str:
        return f"{self.status} {self.code}".strip()


def read_line(line: bytes) -> tuple[Sample, bool] | None:
    """A line of the script's, and whether it is measured or of the warm-up; None where it is none of the script's."""
    try:
        said: Mapping[str, Any] = orjson.loads(line)
        sample = Sample(
            kind=Kind(said["kind"]),
            began=said["began"] / 1000,
            answer_s=said["ms"] / 1000,
            status=said["status"],
            code=said.get("code", ""),
            first_token_s=_seconds(said.get("first")),
            own_s=_seconds(said.get("own")),
            cache=said.get("cache", ""),
        )
        return sample, bool(said["measured"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def endpoint(kind: Kind, samples: Iterable[Sample], promised_s: float) -> EndpointResult:
    """The figures of one kind, of all questions where it is `Kind.QUESTION`. Times are of what did not fail."""
    kinds = frozenset(SHARES) if kind is Kind.QUESTION else {kind}
    asked = [each for each in samples if each.kind in kinds]
    fine = [each for each in asked if each.ok]
    return EndpointResult(
        kind=kind,
        asked=len(asked),
        failed=len(asked) - len(fine),
        good=sum(each.answer_s <= promised_s for each in fine),
        answer=quantiles([each.answer_s for each in fine]),
        first_token=quantiles([each.first_token_s for each in fine if each.first_token_s is not None]),
        own=quantiles([each.own_s for each in fine if each.own_s is not None]),
    )


def quantiles(times: Sequence[float]) -> Quantiles | None:
    """None of no times; no p99 of fewer than a thousand."""
    if not times:
        return None
    p50, p95, p99 = (float(each) for each in np.percentile(times, (50, 95, 99)))
    enough = len(times) >= P99_SAMPLES
    return Quantiles(len(times), float(np.mean(times)), p50, p95, p99 if enough else None, max(times))


def failures(samples: Iterable[Sample]) -> Mapping[str, int]:
    """How often each kind of failure came, the most frequent first."""
    return dict(Counter(each.failure for each in samples if not each.ok).most_common())


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
