"""Pages of runbooks for tests."""

from runbooks.pages import NEVER, SECTIONS


def page(**bodies: str) -> str:
    """One with every section; `Verify_recovery` and the like by their names with underlines."""
    texts = {name.replace("_", " "): body for name, body in bodies.items()}
    parts = [f"## {title}\n{texts.get(title, 'Words.')}\n" for title in SECTIONS]
    return "\n".join(["# Title", "", *parts, f"Last drilled: {NEVER}\n"])


def fence(opening: str, body: str, indent: str = "") -> str:
    lines = [f"```{opening}", *body.split("\n"), "```"]
    return "\n".join(f"{indent}{line}" for line in lines)
