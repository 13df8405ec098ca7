"""How a call of another program's tool can fail."""

from app.integrations.errors import IntegrationError


class McpUnreachable(IntegrationError):
    """The server could not be reached: nothing was asked of it."""

    code, title = "mcp-unreachable", "A tool server cannot be reached"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retryable=True)


class McpTimeout(IntegrationError):
    """The server did not answer in time; what was asked may have happened."""

    code, title = "mcp-timeout", "A tool server did not answer in time"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retryable=True, uncertain=True)


class McpBroken(IntegrationError):
    """The connection ended while the server worked; what was asked may have happened."""

    code, title = "mcp-broken", "A tool server broke off"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retryable=True, uncertain=True)


class McpLied(IntegrationError):
    """What the server did or gave back is not what it had declared."""

    code, title = "mcp-lied", "A tool server did not keep to its own description"

    def __init__(self, detail: str, *, uncertain: bool = True) -> None:
        super().__init__(detail, retryable=False, uncertain=uncertain)


class McpRefused(IntegrationError):
    """The tool itself says that it failed."""

    code, title = "mcp-refused", "A tool of another program failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retryable=False)
