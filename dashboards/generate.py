"""Every board as the file that Grafana reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dashboards.src.catalogue import BOARDS
from dashboards.src.house import document

OUT: Final = Path(__file__).parent / "out"


def committed() -> Mapping[Path, str]:
    """Every file of `dashboards/out`, as it should be: one set for all phases."""
    return {OUT / f"{board.UID}.json": document(board.build()) for board in BOARDS}
