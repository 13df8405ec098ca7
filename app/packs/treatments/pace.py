"""A cap on tokens a minute, so that a run leaves the provider's rate limit to those who wait for an answer."""

import asyncio
from typing import Final

BURST_S: Final = 5.0


class Pace:
    """Lets tokens pass at a rate: the generic cell rate algorithm (ITU-T I.371) with a burst of `BURST_S` seconds.

    Args:
        tokens_per_minute: None for no cap.
    """

    def __init__(self, tokens_per_minute: int | None) -> None:
        self._per_s = None if tokens_per_minute is None else tokens_per_minute / 60
        self._paid_until = 0.0

    async def take(self, tokens: int) -> None:
        """Returns when so many tokens may pass; in the order of the calls."""
        if self._per_s is None:
            return
        now = asyncio.get_running_loop().time()
        self._paid_until = max(self._paid_until, now - BURST_S)
        wait = self._paid_until - now
        self._paid_until += tokens / self._per_s
        if wait > 0:
            await asyncio.sleep(wait)

    def correct(self, tokens: int) -> None:
        """Adds what a call took beyond what was taken for it; a negative number gives back."""
        if self._per_s is not None:
            self._paid_until += tokens / self._per_s
