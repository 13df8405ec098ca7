"""Draws dashboards from a live Prometheus, each to a PNG and to an HTML page that holds everything.

Exit code 0: all drawn. 1: drawn, and a query failed (listed at the end). 2: nothing drawn, with the reason.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dashboards.render.gather import BoardData, Request, gather
from dashboards.render.grafana import COLUMNS, Board, read_board
from dashboards.render.interval import seconds
from dashboards.render.page import page, png
from dashboards.render.picture import draw
from dashboards.render.prometheus import Away, Prometheus

BOARDS: Final = Path(__file__).parent.parent / "out"
ALL: Final = "all"
WIDTH: Final = 1660
"""Twice of what a README shows."""
_LEAST, _MOST = 800, 6000


def main(argv: Sequence[str] | None = None) -> int:
    given = _arguments(argv)
    try:
        boards = [found.only(given.panels) if given.panels else found for found in find(given.board, given.boards)]
        drawn = asyncio.run(_ask(boards, given))
        for data in drawn:
            for path in write(data, given.out, given.width):
                print(path)
    except (Away, ValueError, OSError) as error:
        print(f"Nothing was drawn: {error}.", file=sys.stderr)
        return 2
    failed = [f"{data.board.uid}: {error}" for data in drawn for error in data.errors]
    if failed:
        count = "1 query" if len(failed) == 1 else f"{len(failed)} queries"
        print(f"{count} failed:\n  " + "\n  ".join(failed), file=sys.stderr)
    return int(bool(failed))


def find(board: str, folder: Path) -> Sequence[Board]:
    """The board of a uid or a file, or all of the folder. Raises ValueError where there is none."""
    if board != ALL and Path(board).suffix == ".json":
        return [_read(Path(board))]
    names = sorted(path.stem for path in folder.glob("*.json"))
    if board != ALL and board not in names:
        raise ValueError(f"there is no dashboard '{board}'; there are: {', '.join(names) or 'none'}")
    if not names:
        raise ValueError(f"{folder} holds no dashboard")
    return [_read(folder / f"{name}.json") for name in (names if board == ALL else [board])]


def _read(path: Path) -> Board:
    try:
        return read_board(json.loads(path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no dashboard of Grafana: {error}") from error


async def _ask(boards: Sequence[Board], given: argparse.Namespace) -> Sequence[BoardData]:
    """One after the other: each already asks for many things at once."""
    # A column of the grid is shown half as wide as it is drawn; a point takes a pixel of that.
    points = given.width / COLUMNS / 2
    request = Request(given.at - given.range, given.at, given.step, given.scrape, points, given.set)
    async with Prometheus(given.prometheus) as prometheus:
        return [await gather(board, prometheus, request) for board in boards]


def write(data: BoardData, folder: Path, width: int) -> Sequence[Path]:
    """Both files of a board, each whole or not at all."""
    picture = draw(data, width)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {".png": png(picture.pixels), ".html": page(data, picture).encode()}
    paths = [folder / f"{data.board.uid}{suffix}" for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        put(path, content)
    return paths


def put(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # A temporary file is its owner's alone; a picture or a report is for everybody.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m dashboards.render", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("board", nargs="?", default=ALL, help="uid of a dashboard, a file of Grafana's JSON, or 'all' (as it is)")
    add("--prometheus", default="http://127.0.0.1:9090", help="its address (%(default)s)")
    add("--range", type=_duration, default=900.0, metavar="15m", help="how far back (15m)")
    add("--at", type=_moment, default=None, metavar="TIME", help="the end: Unix seconds; now where not given")
    add(
        "--step",
        type=_duration,
        default=0.0,
        metavar="10s",
        help="between two points; as Grafana would where not given",
    )
    add(
        "--scrape",
        type=_duration,
        default=0.0,
        metavar="15s",
        help="scrape interval; what Prometheus says where not given",
    )
    add("--out", type=Path, default=Path("dist/dashboards"), help="folder of the files (%(default)s)")
    add("--width", type=_width, default=WIDTH, help="of the picture in pixels (%(default)s: twice of what is shown)")
    add("--panels", default="", metavar="WORDS", help="only panels with one of these in their title, comma-separated")
    add(
        "--set",
        type=_choice,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable's value (all of them)",
    )
    add("--boards", type=Path, default=BOARDS, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    given.at = time.time() if given.at is None else given.at
    given.set = dict(given.set)
    return given


def _duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no time: give Unix seconds") from None


def _width(text: str) -> int:
    if not text.isdecimal() or not _LEAST <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"a picture is from {_LEAST} to {_MOST} pixels wide, not '{text}'")
    return int(text)


def _choice(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not (name and given):
        raise argparse.ArgumentTypeError(f"'{text}' is no NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
