"""What the Pulumi engine runs for `--policy-pack infra/policy`: it serves the rules until the engine ends it.

The engine runs this folder as a program, with the folder itself first on the path; the repository takes its place.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from infra.policy.pack import serve  # noqa: E402

serve()
