"""What a Qdrant server that does not answer as it should means to us."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc  # type: ignore[import-untyped]
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from app.errors import Unavailable
from app.knowledge.refusals import refused
from app.telemetry import spans

_STATUSES = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.INTERNAL: 500,
}


@asynccontextmanager
async def answered(timeout_s: float, operation: str) -> AsyncIterator[None]:
    """Every failure of the client as one of ours, in one sentence that carries nothing of what was sent.

    The client's own time-out is for each piece of an answer: one that trickles would take for ever. `operation` names
    the span around it.
    """
    try:
        with spans.vectors(operation):
            async with asyncio.timeout(timeout_s):
                yield
    except UnexpectedResponse as error:
        raise refused(error.status_code or 0) from error
    except ResourceExhaustedResponse as error:
        raise Unavailable("The vector server is busy.", retry_after=error.retry_after_s) from error
    except grpc.aio.AioRpcError as error:
        raise refused(_STATUSES.get(error.code(), 0)) from error
    except (ApiException, QdrantException, TimeoutError, ValueError) as error:  # ValueError: what is no JSON
        raise refused(0) from error
