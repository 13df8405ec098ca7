"""What a vector server's refusals mean to us, whoever asked it."""

from app.errors import Unavailable


class NoCollection(Unavailable):
    """The server knows no such collection."""


class KeyRefused(Unavailable):
    """The key is wrong: from the start, or changed while we run."""


def refused(status: int) -> Unavailable:
    """`status`: of HTTP; 0 where there is none."""
    if status == 0:
        return Unavailable("The vector server does not answer, or not in its own language.", retry_after=1)
    if status == 404:
        return NoCollection("The vector server has no such collection.", retry_after=1)
    if status in (401, 403):
        return KeyRefused("The vector server refuses the key: check TRELLIS_VECTORS_KEY.", retry_after=60)
    return Unavailable(f"The vector server answered {status}.", retry_after=1)
