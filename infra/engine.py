"""The Pulumi engine behind `make deploy`, through its Automation API, and the account that it would work in."""

import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from infra.errors import InfraError
from infra.files import configured, file_of
from infra.layout import StackName
from infra.settings import NAMESPACE

ROOT: Final = Path(__file__).parent.parent
_NO_ENGINE: Final = (
    "The Pulumi engine is not installed: put `pulumi` on the PATH (https://www.pulumi.com/docs/install/) and log in to "
    "where state is kept (`pulumi login s3://<bucket>`, or your organization). `make plan` needs no engine."
)
_PROTECTED: Final = (
    "Data stores are protected: keep a copy of what they hold, turn off `deletionProtection` in AWS, then "
    "`pulumi state unprotect --all --stack {stack}`, and run it again."
)
Tell = Callable[[str], None]


class AutomationEngine:
    """Pulumi's command line. Raises InfraError where it is not installed, or where it refuses.

    `environment`: what it is given beside the caller's.
    """

    def __init__(self, root: Path = ROOT) -> None:
        if shutil.which("pulumi") is None:
            raise InfraError(_NO_ENGINE)
        self._root = root
        # Pulumi has uv bring the environment up to date before each run. `make` keeps uv in the repository and has
        # installed what is needed: nothing is added, and the project is not built again.
        tools = str(root / ".tools" / "bin")
        self.environment: Mapping[str, str] = {
            "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
            "UV_FROZEN": "1",
            "UV_NO_DEFAULT_GROUPS": "1",
            "UV_NO_INSTALL_PROJECT": "1",
        }

    def standing(self) -> Collection[str]:
        found = self._refused("state", lambda: self._workspace().list_stacks())
        return [summary.name.rpartition("/")[2] for summary in found if summary.resource_count]

    def outputs(self, stack: str) -> Collection[str]:
        if stack not in self.standing():
            return ()
        return list(self._refused(stack, lambda: self._workspace().stack_outputs(stack)))

    def preview(self, stack: str) -> Mapping[str, int]:
        changes = self._refused(stack, lambda: self._stack(stack).preview()).change_summary
        return {str(getattr(kind, "value", kind)): many for kind, many in changes.items()}

    def up(self, stack: str, tell: Tell) -> None:
        self._refused(stack, lambda: self._stack(stack).up(on_output=tell))

    def destroy(self, stack: str, tell: Tell) -> None:
        self._refused(stack, lambda: self._stack(stack).destroy(on_output=tell))

    def _options(self) -> Any:
        from pulumi.automation import LocalWorkspaceOptions

        return LocalWorkspaceOptions(work_dir=str(self._root), env_vars=dict(self.environment))

    def _workspace(self) -> Any:
        from pulumi.automation import LocalWorkspace

        return LocalWorkspace(work_dir=str(self._root), env_vars=dict(self.environment))

    def _stack(self, stack: str) -> Any:
        from pulumi.automation import create_or_select_stack

        return create_or_select_stack(stack_name=stack, work_dir=str(self._root), opts=self._options())

    def _refused(self, stack: str, ask: Callable[[], Any]) -> Any:
        from pulumi.automation import CommandError, ConcurrentUpdateError

        try:
            return ask()
        except ConcurrentUpdateError:
            raise InfraError(
                f"Somebody else is changing '{stack}', or an earlier run was cut off: wait, or "
                f"`pulumi cancel --stack {stack}`."
            ) from None
        except CommandError as error:
            raise InfraError(f"Pulumi refused '{stack}': {reason(str(error), stack)}") from None


def reason(text: str, stack: str) -> str:
    """The line that says what is wrong; for what is protected, what to do."""
    if "protected" in text and "delete" in text:
        return _PROTECTED.format(stack=stack)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if "error:" in line), lines[-1] if lines else "no reason given")
    return said[max(said.find("error:"), 0) :]


def in_account(stacks: Sequence[StackName], tell: Tell) -> None:
    """Raises InfraError where the credentials at hand are another account's than the stacks name.

    The provider checks it, too, but only once the engine runs. Without AWS's command line that is the only check.
    """
    wanted = {configured(file_of(stack)).texts.get(f"{NAMESPACE}:account") for stack in stacks} - {None}
    if not wanted:
        return
    if len(wanted) > 1:
        raise InfraError(f"The stacks name several accounts ({', '.join(sorted(map(str, wanted)))}): give them one.")
    aws = shutil.which("aws")
    if aws is None:
        tell("AWS's command line is not installed: the account is checked by the provider, when the engine runs it.")
        return
    asked = subprocess.run(  # noqa: S603 - the AWS command line, no shell
        [aws, "sts", "get-caller-identity", "--query", "Account", "--output", "text"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if asked.returncode:
        why = asked.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InfraError(f"AWS does not know who you are: {why[0]}")
    (account,) = wanted
    if asked.stdout.strip() != account:
        raise InfraError(
            f"Your credentials are of the account {asked.stdout.strip()}, the stacks are of {account}: use that "
            f"account's, or set {NAMESPACE}:account."
        )
