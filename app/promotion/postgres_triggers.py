"""What a promotion adds to a PostgreSQL database: a schema of its own with the change log, the gate and the state.

The gate is an advisory lock and a sequence, since neither is part of a snapshot. Every transaction that writes holds
the lock with others and never waits for it; whoever closes the gate takes it alone, and has it when the last of them
has ended. The sequence says whether the gate stays closed. No table is locked, so nobody waits for two things at once.
The functions run as the owner: the app's login needs no right to anything here.
"""

from collections.abc import Sequence
from typing import Final

from app.promotion.side import FINISHED
from app.promotion.tables import MovedTable
from app.storage.moved import MOVED, MOVED_SQLSTATE

SCHEMA: Final = "trellis_promotion"
OURS: Final = "trellis.promotion"
"""The setting that a promotion's own transactions set to 'yes'."""
_DEFINER: Final = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_GATE_TRIGGER: Final = "promotion_gate"
_LOG_TRIGGER: Final = "promotion_log"
LOCK: Final = int.from_bytes(b"gate")
"""The key of an advisory lock."""
_OPEN, _CLOSED = 1, 2

TABLES: Final = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    f"CREATE TABLE IF NOT EXISTS {SCHEMA}.state (name text PRIMARY KEY, value text NOT NULL)",
    f"CREATE TABLE IF NOT EXISTS {SCHEMA}.changes (seq bigserial PRIMARY KEY, name text NOT NULL, key text NOT NULL, "
    "made_in xid8 NOT NULL DEFAULT pg_current_xact_id())",
    f"CREATE SEQUENCE IF NOT EXISTS {SCHEMA}.gate START {_OPEN}",
    f"""CREATE OR REPLACE FUNCTION {SCHEMA}.refuse() RETURNS trigger {_DEFINER} AS $$
BEGIN
    IF current_setting('{OURS}', true) = 'yes' THEN
        RETURN NULL;
    END IF;
    -- Two statements: the gate is looked at once the lock is held, and OR promises no order.
    IF pg_try_advisory_xact_lock_shared({LOCK}) THEN
        IF (SELECT last_value FROM {SCHEMA}.gate) <> {_CLOSED} THEN
            RETURN NULL;
        END IF;
    END IF;
    RAISE EXCEPTION '{MOVED}' USING ERRCODE = '{MOVED_SQLSTATE}';
END $$""",  # noqa: S608 - constants
)
READY: Final = f"INSERT INTO {SCHEMA}.state VALUES ('installed', 'true') ON CONFLICT DO NOTHING"  # noqa: S608
INSTALLED: Final = f"SELECT to_regclass('{SCHEMA}.gate') IS NOT NULL"
GATE: Final = f"""
SELECT CASE
    WHEN (SELECT last_value FROM {SCHEMA}.gate) = {_CLOSED} THEN 'CLOSED'
    WHEN EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND classid = 0 AND objid = {LOCK} AND mode = 'ExclusiveLock' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) THEN 'LEASED'
    ELSE 'OPEN' END
"""  # noqa: S608 - constants
TAKE: Final = f"SELECT pg_advisory_lock({LOCK})"
CLOSE: Final = f"SELECT setval('{SCHEMA}.gate', {_CLOSED})"
OPEN: Final = f"SELECT setval('{SCHEMA}.gate', {_OPEN})"
# Numbers of a sequence are not committed in their order: only what the reader's snapshot saw may go.
FORGET: Final = (
    f"DELETE FROM {SCHEMA}.changes WHERE seq <= $1 AND pg_visible_in_snapshot(made_in, $2::text::pg_snapshot)"  # noqa: S608
)
KEY_TYPES: Final = """
SELECT class.relname, attribute.attname, format_type(attribute.atttypid, NULL)
FROM pg_index AS key
JOIN pg_class AS class ON class.oid = key.indrelid
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum = ANY(key.indkey)
WHERE key.indisprimary AND class.relnamespace IN (to_regnamespace('public'), to_regnamespace('dbos'))
"""


def full_name(table: MovedTable) -> str:
    return f"{table.owner}.{table.name}" if table.owner else table.name


def install(table: MovedTable) -> Sequence[str]:
    """The table's function and its two triggers; replaces those that are there."""
    keys = {row: ", ".join(f'{row}."{column}"' for column in table.key) for row in ("OLD", "NEW")}
    note = f"INSERT INTO {SCHEMA}.changes (name, key) VALUES ('{table.name}', jsonb_build_array({{}})::text);"  # noqa: S608
    function = f"{SCHEMA}.log_{table.name}"
    return (
        f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger {_DEFINER} AS $$
BEGIN
    IF current_setting('{OURS}', true) = 'yes' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' AND (TG_OP = 'DELETE' OR ({keys["OLD"]}) IS DISTINCT FROM ({keys["NEW"]})) THEN
        {note.format(keys["OLD"])}
    END IF;
    IF TG_OP <> 'DELETE' THEN
        {note.format(keys["NEW"])}
    END IF;
    RETURN NULL;
END $$""",
        f"CREATE OR REPLACE TRIGGER {_LOG_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {full_name(table)} "
        f"FOR EACH ROW EXECUTE FUNCTION {function}()",
        f"CREATE OR REPLACE TRIGGER {_GATE_TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE "
        f"ON {full_name(table)} FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse()",
    )


def retire(tables: Sequence[MovedTable]) -> Sequence[str]:
    """The log goes, the gate stays."""
    return [
        *(f"DROP TRIGGER IF EXISTS {_LOG_TRIGGER} ON {full_name(table)}" for table in tables),
        f"TRUNCATE {SCHEMA}.changes",
        f"INSERT INTO {SCHEMA}.state VALUES ('{FINISHED}', 'true') ON CONFLICT DO NOTHING",  # noqa: S608
    ]


def uninstall(tables: Sequence[MovedTable]) -> Sequence[str]:
    return [
        *(
            f"DROP TRIGGER IF EXISTS {trigger} ON {full_name(table)}"
            for table in tables
            for trigger in (_LOG_TRIGGER, _GATE_TRIGGER)
        ),
        f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
    ]
