"""What the Pulumi engine runs for every stack.

The engine runs this folder as a program, with the folder itself first on the path. Its modules would then be found by
their bare names, before libraries' of the same name, and `infra` only where it is installed: the folder above takes its
place.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import pulumi  # noqa: E402

from infra.errors import InfraError  # noqa: E402
from infra.programs import run  # noqa: E402

try:
    run(pulumi.get_stack())
except InfraError as error:
    # Shown as a sentence, without a trace.
    raise pulumi.RunError(str(error)) from None
