"""What is asked beside the page does not answer."""

from app.errors import TrellisError


class Away(TrellisError):
    """One sentence that is printed in its place; the page is printed without it."""
