"""Links to further pages of a list."""

from collections.abc import Mapping
from urllib.parse import urlencode


def query_of(wanted: Mapping[str, str], cursor: str = "") -> str:
    """The query string that keeps the filters and goes on after `cursor`; "" where there is neither."""
    given = {name: value for name, value in {**wanted, "cursor": cursor}.items() if value}
    return f"?{urlencode(given)}" if given else ""
