"""How many examples a property tries: as many as it says, fewer in the fast tests."""

from hypothesis import settings

FULL = 100
LEAST = 5


def examples(wanted: int) -> int:
    """`wanted` under the full profile, in proportion under another one (`tests/conftest.py` loads it)."""
    return max(min(wanted, LEAST), wanted * settings.default.max_examples // FULL)
