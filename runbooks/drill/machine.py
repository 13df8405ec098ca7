"""What stands for `kubectl` on a stage without a cluster: the service is one process of this machine.

`python -m runbooks.drill.machine ADDRESS ...` with kubectl's own arguments; ADDRESS is the stage's (see `controlled` of
`runbooks.drill.stages.service`). `exec` runs the command here with the service's settings, `logs` prints its log,
`set env` restarts it with others, `rollout restart` and `rollout undo` as they say; `rollout status` has nothing to
wait for, because those return when it serves. What it does not stand for is refused.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

WAIT_S = 400.0


class NotStoodForError(Exception):
    """The command needs a cluster, or is not written as the pages write it."""


def command_in_pod(arguments: Sequence[str]) -> Sequence[str]:
    """What stands after `--`. Raises NotStoodForError."""
    if "--" not in arguments or arguments[-1] == "--":
        raise NotStoodForError("kubectl exec needs `-- <command>`")
    return arguments[arguments.index("--") + 1 :]


def changes(arguments: Sequence[str]) -> dict[str, str | None]:
    """Of `set env deploy/api NAME=value OTHER-`. Raises NotStoodForError where nothing is changed."""
    found: dict[str, str | None] = {}
    for argument in arguments:
        name, given, value = argument.partition("=")
        if given and not name.startswith("-"):
            found[name] = value
        elif argument.endswith("-"):
            found[argument[:-1]] = None
    if not found:
        raise NotStoodForError("kubectl set env needs NAME=value, or NAME- to take it away")
    return found


def stand_for(address: str, arguments: Sequence[str]) -> None:
    """Raises NotStoodForError."""
    match list(arguments):
        case ["exec", *rest]:
            command = command_in_pod(rest)
            settings = json.loads(_ask(f"{address}/settings"))
            os.execvpe(command[0], list(command), {**os.environ, **settings})  # noqa: S606 - the page's own command
        case ["logs", *_]:
            sys.stdout.write(_ask(f"{address}/log"))
        case ["set", "env", *rest]:
            _ask(f"{address}/set", changes(rest))
        case ["rollout", "restart" | "undo" as how, *_]:
            _ask(f"{address}/{how}", {})
        case ["rollout", "status", *_]:
            print("successfully rolled out")
        case _:
            raise NotStoodForError(f"no cluster is on this stage for `kubectl {' '.join(arguments)}`")


def _ask(url: str, body: Any = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=WAIT_S) as answer:  # noqa: S310 - loopback
            told: str = answer.read().decode(errors="replace")
            return told
    except urllib.error.HTTPError as refused:
        raise NotStoodForError(refused.read().decode(errors="replace")) from None


def main(argv: Sequence[str]) -> int:
    address, *arguments = argv
    try:
        stand_for(address, arguments[2:] if arguments[:1] == ["-n"] else arguments)
    except NotStoodForError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
