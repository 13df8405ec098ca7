"""`make deploy` and `make destroy`: a phase's stacks by a real engine, in order, with progress.

What a plan finds wrong is refused before the engine is asked for anything: a broken rule, a budget that is exceeded, a
value that nobody has filled in, another account. Run again after an interruption, it goes on from where it was.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Final, Protocol

from infra.checks import ready
from infra.engine import AutomationEngine, Tell, in_account
from infra.errors import InfraError
from infra.layout import CLUSTER_APPS, StackName, before, chosen
from infra.offline import graphs
from infra.outputs import CellOutputs
from infra.phases import PHASES
from infra.review import broken, exceeded, parts

_NOTHING: Final = "nothing to change"

Agree = Callable[[str], bool]


class Engine(Protocol):
    """What is asked of Pulumi, of one stack at a time. Each raises InfraError where the engine refuses."""

    def standing(self) -> Collection[str]:
        """Stacks of which something was made, and not taken down."""
        ...

    def outputs(self, stack: str) -> Collection[str]:
        """Names of what it exports: of one that was never finished, not all."""
        ...

    def preview(self, stack: str) -> Mapping[str, int]:
        """How many resources would be created, updated, deleted, replaced, left the same."""
        ...

    def up(self, stack: str, tell: Tell) -> None: ...

    def destroy(self, stack: str, tell: Tell) -> None: ...


def deploy(stacks: Sequence[StackName], engine: Engine, tell: Tell, agree: Agree) -> None:
    """Makes the stacks, each after those that it reads.

    Raises InfraError where a stack that is read, and is not among these, was never finished; nothing is made then.
    """
    for stack in stacks:
        for needed in before(stack):
            if needed not in stacks:
                _finished(stack, needed, engine)
    with _Progress(stacks, "made", tell) as progress:
        for stack in stacks:
            changes = _told(engine.preview(str(stack)))
            progress.begin(stack, changes)
            if changes != _NOTHING and not agree(f"Make {changes} in '{stack}'?"):
                raise InfraError(f"Stopped before '{stack}': nothing of it was changed.")
            if changes != _NOTHING:
                engine.up(str(stack), tell)


def destroy(stacks: Sequence[StackName], engine: Engine, tell: Tell, agree: Agree) -> None:
    """Takes the stacks down in the opposite order; one that was never made is left out.

    Raises InfraError where another stack still reads outputs of these; nothing is taken down then.
    """
    standing = _known(engine.standing())
    for other in standing:
        if other not in stacks and set(before(other)) & set(stacks):
            raise InfraError(f"'{other}' still stands on what would be taken down: destroy it first.")
    going = [stack for stack in reversed(stacks) if stack in standing]
    if not going:
        tell("Nothing stands: there is nothing to take down.")
        return
    if not agree(f"Take down {', '.join(map(str, going))}, with all that they hold?"):
        raise InfraError("Stopped: nothing was taken down.")
    with _Progress(going, "taken down", tell) as progress:
        for stack in going:
            progress.begin(stack, "everything is deleted")
            engine.destroy(str(stack), tell)


def _known(names: Collection[str]) -> Sequence[StackName]:
    """Without stacks of the project that somebody made beside ours."""
    found = []
    for name in sorted(names):
        with contextlib.suppress(InfraError):
            found.append(StackName.parse(name))
    return found


def _told(changes: Mapping[str, int]) -> str:
    counted = {kind: many for kind, many in sorted(changes.items()) if many and kind != "same"}
    return ", ".join(f"{many} to {kind}" for kind, many in counted.items()) or _NOTHING


def _finished(stack: StackName, needed: StackName, engine: Engine) -> None:
    missing = sorted({output.name for output in fields(CellOutputs)} - set(engine.outputs(str(needed))))
    if missing:
        raise InfraError(
            f"'{stack}' reads outputs of '{needed}', which is not made yet (no output '{missing[0]}'): "
            f"deploy that first (PHASE={needed.phase} REGION={needed.region})."
        )


class _Progress:
    """Says which stack it is at and, where it ends early, what is left."""

    def __init__(self, stacks: Sequence[StackName], done: str, tell: Tell) -> None:
        self._stacks = stacks
        self._done = done
        self._tell = tell
        self._at = -1

    def begin(self, stack: StackName, what: str) -> None:
        self._at += 1
        self._tell(f"[{self._at + 1}/{len(self._stacks)}] {stack}: {what}")

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._tell(f"All {self._done}: {', '.join(map(str, self._stacks))}.")
            return
        at = max(self._at, 0)
        earlier = ", ".join(map(str, self._stacks[:at])) or "nothing"
        later = ", ".join(map(str, self._stacks[at:]))
        self._tell(f"Ended early. Already {self._done}: {earlier}. Still to be {self._done}: {later}.")


def asked(question: str) -> bool:
    """Of whoever sits there. Raises InfraError where nobody does."""
    try:
        return input(f"{question} [yes/no] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise InfraError("Nobody is there to agree: say YES=1 to go on without asking.") from None


def main(arguments: Sequence[str]) -> int:
    """The exit code: 2 for what the user has to mend, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(prog="infra.deploy", description=__doc__)
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--phase", default="")
    parser.add_argument("--region", default="")
    parser.add_argument("--yes", action="store_true", help="without asking")
    given = parser.parse_args(arguments)
    agree: Agree = (lambda _: True) if given.yes else asked
    try:
        if not given.phase:
            raise InfraError(f"Say which phase (PHASE=): there are {', '.join(PHASES)} and {CLUSTER_APPS}.")
        _act(given.action, chosen(given.phase, given.region), agree)
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: Pulumi ends what it has begun. Run it again, and it goes on from there.", file=sys.stderr)
        return 130
    return 0


def _act(action: str, stacks: Sequence[StackName], agree: Agree) -> None:
    engine = AutomationEngine()
    if action == "down":
        in_account(stacks, print)
        destroy(stacks, engine, print, agree)
        return
    reviewed(stacks)
    in_account(stacks, print)
    deploy(stacks, engine, print, agree)


def reviewed(stacks: Sequence[StackName]) -> None:
    """Raises InfraError for what a plan of the stacks finds wrong."""
    for stack in stacks:
        ready(stack)
    names = [str(stack) for stack in stacks]
    every = graphs(names)
    found = {name: every[name] for name in names}
    findings = broken(found)
    if findings:
        raise InfraError(f"{len(findings)} rules are broken, the first: {findings[0].sentence} See `make plan`.")
    for sentence in exceeded(parts(found)):
        raise InfraError(sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
