"""`trellis health`: how the process on this machine's port is, in one sentence and an exit code."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from app.errors import TrellisError
from app.settings import Settings, load_settings

TIMEOUT_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - replaced, not bound
_USAGE = "Usage: trellis health [--ready|--startup]"


def run(settings: Settings, *, ready: bool = False, startup: bool = False) -> int:
    """Prints the sentence; the exit code is 0 where all is well, or what is not is not needed."""
    name = "ready" if ready else "startup" if startup else "health"
    well, sentence = ask(settings, f"/{name}z")
    print(sentence)
    return 0 if well else 1


def ask(settings: Settings, path: str) -> tuple[bool, str]:
    """Whether the probe at the path answers well, and what it says."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    address = settings.model_copy(update={"host": host}).address
    # A proxy of the environment has no business between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}{path}", timeout=TIMEOUT_S) as response:
            return True, _sentence(json.load(response))
    except urllib.error.HTTPError as error:
        return False, _refusal(error)
    except (OSError, ValueError):
        return False, f"Nothing that is Trellis answers at {address}: is it running, and on this port?"


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return _sentence(json.load(error))
    except (OSError, ValueError):
        return f"It answered {error.code}: look at its log."


def _sentence(state: dict[str, Any]) -> str:
    if "alive" in state:
        return "Alive."
    if "started" in state:
        return "Started." if state["started"] else f"Not started: {_causes(state)}"
    if not state["ready"]:
        return f"Not ready: {_causes(state)}"
    return f"Ready, without {_causes(state)}" if state["degraded"] else "Ready."


def _causes(state: dict[str, Any]) -> str:
    return "; ".join(f"{check['name']} ({check['cause']})" for check in state["checks"] if not check["ok"])


def main(arguments: Sequence[str]) -> int:
    """As `trellis health`, without the import of the whole app."""
    if not set(arguments) <= {"--ready", "--startup"} or len(arguments) > 1:
        print(_USAGE, file=sys.stderr)
        return 0 if "--help" in arguments else 2
    try:
        return run(load_settings(), ready="--ready" in arguments, startup="--startup" in arguments)
    except TrellisError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 1
