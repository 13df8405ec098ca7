"""Expressions that many panels have in common. `where` is a selector with its braces, `{job="redis"}`."""


def rate(metric: str, *by: str, where: str = "") -> str:
    """How much a counter grows a second: the sum, or one for each value of the labels."""
    return f"sum{_by(*by)}(rate({metric}{where}[$__rate_interval]))"


def quantile(share: float, metric: str, *by: str, where: str = "") -> str:
    """The value below which `share` (0..1) of a histogram's observations lie; `metric` without `_bucket`."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', *by, 'le', where=where)})"


def mean(metric: str, *by: str, where: str = "") -> str:
    """The mean of a histogram's or summary's observations; `metric` without `_sum`."""
    return f"{rate(f'{metric}_sum', *by, where=where)} / {rate(f'{metric}_count', *by, where=where)}"


def share(part: str, whole: str) -> str:
    """`part` of `whole`, from 0 to 1; nothing where there is nothing of the whole."""
    return f"{part} / ({whole} > 0)"


def _by(*labels: str) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def increase(metric: str, *by: str, where: str = "", window: str = "$__range") -> str:
    """How much a counter grew over the time shown: the sum, or one for each value of the labels."""
    return f"sum{_by(*by)}(increase({metric}{where}[{window}]))"
