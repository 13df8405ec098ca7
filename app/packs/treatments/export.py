"""Results as files, CSV or Parquet, in memory that does not grow with the number of customers."""

import asyncio
import csv
import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import IO, Any, Final

import orjson

from app.packs.treatments.models import Result
from app.packs.treatments.results import ResultFilter, parts
from app.storage.base import MICROS
from app.storage.db import Database

CSV_ROWS: Final = 1000
GROUP_ROWS: Final = 5000
"""Of a Parquet file's row group."""
BLOCK: Final = 1 << 18
COLUMNS: Final = (
    "external_id",
    "state",
    "treatment",
    "net_usd",
    "reason",
    "fair_group",
    "best_option",
    "best_chance",
    "options",
    "fingerprint",
    "run_id",
    "decided_at",
    "updated_at",
)
# The last four are full-width: some locales take them for formulas too.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class ResultFiles:
    """A run's results as the rows of a file."""

    def __init__(self, db: Database, tenant_id: str, run_id: str, wanted: ResultFilter | None = None) -> None:
        self._db = db
        self._tenant_id = tenant_id
        self._run_id = run_id
        self._wanted = wanted or ResultFilter()
        self.rows = 0
        """How many went into the file so far."""

    async def csv(self) -> AsyncIterator[bytes]:
        """The file in pieces. A text that a spreadsheet would take for a formula begins with an apostrophe."""
        yield (",".join(COLUMNS) + "\r\n").encode()
        async for rows in self._parts(CSV_ROWS):
            yield await asyncio.to_thread(_lines, rows)

    async def parquet(self) -> IO[bytes]:
        """A temporary file, at its beginning, that is gone once it is closed."""
        file = await asyncio.to_thread(tempfile.TemporaryFile)
        writer = await asyncio.to_thread(_ParquetWriter, file)
        async for rows in self._parts(GROUP_ROWS):
            await asyncio.to_thread(writer.add, rows)
        await asyncio.to_thread(writer.close)
        file.seek(0)
        return file

    async def _parts(self, size: int) -> AsyncIterator[Sequence[tuple[Result, str]]]:
        async for rows in parts(self._db, self._tenant_id, self._run_id, self._wanted, size):
            self.rows += len(rows)
            yield rows


async def blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    """An open file in pieces; closes it at the end, also where the reader goes away."""
    try:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block
    finally:
        file.close()


class _ParquetWriter:
    """A row group for each part. Blocks: called in a thread."""

    def __init__(self, file: IO[bytes]) -> None:
        # Here, for it takes 100 ms and 30 MB that only those pay who want the format.
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]

        text, number, moment = pyarrow.string(), pyarrow.float64(), pyarrow.timestamp("us", tz="UTC")
        kinds = {"net_usd": number, "best_chance": number, "decided_at": moment, "updated_at": moment}
        self._schema = pyarrow.schema([(name, kinds.get(name, text)) for name in COLUMNS])
        self._table = pyarrow.Table
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema)

    def add(self, rows: Sequence[tuple[Result, str]]) -> None:
        values = [_values(*row) for row in rows]
        self._writer.write_table(self._table.from_pylist(values, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _values(row: Result, external_id: str) -> dict[str, Any]:
    best = row.options[0] if row.options else None
    values = (
        external_id,
        row.state,
        row.treatment,
        row.net_micros / MICROS,
        row.reason,
        row.fair_group,
        best["treatment"] if best else "",
        best["chance"] if best else None,
        orjson.dumps(row.options).decode(),
        row.fingerprint,
        row.run_id,
        row.created_at,
        row.updated_at,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _lines(rows: Sequence[tuple[Result, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in rows:
        values = _values(*row)
        for name in ("decided_at", "updated_at"):
            values[name] = values[name].isoformat()
        writer.writerow([defused(value) for value in values.values()])
    return text.getvalue().encode()


def defused(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
