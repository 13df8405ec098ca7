"""What stands for `kubectl` before a stage's fleet: several processes of this machine in the place of pods.

`python -m runbooks.drill.fleet_kubectl ADDRESS ...` with kubectl's own arguments; ADDRESS is the fleet's (see
`runbooks.drill.stages.fleet`). Numbers of processes, restarts and `exec` are carried out; KEDA's annotation that pauses
it sets the number too. A restart returns when it is done, so its status has nothing to wait for. What it does not stand
for is refused.
"""

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

import orjson

WAIT_S: Final = 280.0
_PAUSED: Final = re.compile(r"autoscaling\.keda\.sh/paused-replicas(?:=(\d+)|-)")
_NAMED: Final = re.compile(r"(?:deploy/)?([a-z-]+)")


class NotStoodForError(Exception):
    """The command needs a cluster, or is not written as the pages write it."""


def stand_for(address: str, arguments: Sequence[str]) -> str:
    """What it prints. Raises NotStoodForError."""
    rest = list(arguments[2:]) if list(arguments[:2]) == ["-n", "trellis"] else list(arguments)
    match rest:
        case ["exec", where, "--", *command] if command:
            found = orjson.loads(_ask(f"{address}/{_name(where)}/settings", {}))
            os.execvpe(command[0], command, {**os.environ, **found})  # noqa: S606 - the page's own command
        case ["scale", where, count] if count.startswith("--replicas="):
            _ask(f"{address}/{_name(where)}/scale", {"replicas": int(count.partition("=")[2])})
            return f"{where} scaled"
        case ["annotate", "scaledobject", name, annotation, *_] if paused := _PAUSED.fullmatch(annotation):
            _ask(f"{address}/{name}/scale", {"replicas": int(paused[1]) if paused[1] else None})
            return f"scaledobject/{name} annotated"
        case ["annotate", "externalsecret", name, *_]:
            # Every process that starts reads its secrets anew: nothing is kept in between.
            return f"externalsecret/{name} annotated"
        case ["rollout", "restart", *names]:
            for one in names:
                _ask(f"{address}/{_name(one)}/restart", {})
            return f"{' '.join(names)} restarted"
        case ["rollout", "status", where, *_]:
            return f"{where} successfully rolled out"
        case ["get", "deploy", name, "-o", template] if template.startswith("jsonpath="):
            return _ask(f"{address}/{name}/shown", {"template": template.removeprefix("jsonpath=")})
        case ["logs", where, *_]:
            return _ask(f"{address}/{_name(where)}/log", {})
    raise NotStoodForError(f"no cluster is on this stage for `kubectl {' '.join(arguments)}`")


def _name(where: str) -> str:
    found = _NAMED.fullmatch(where)
    if found is None:
        raise NotStoodForError(f"'{where}' is no deployment")
    return found[1]


def _ask(url: str, body: Any) -> str:
    """Raises NotStoodForError with what the fleet says."""
    request = urllib.request.Request(url, orjson.dumps(body), {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - the stage's own
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        raise NotStoodForError(error.read().decode() or f"the fleet answers {error.code}") from error


def main(argv: Sequence[str]) -> int:
    address, *arguments = argv
    try:
        print(stand_for(address, arguments))
    except NotStoodForError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
