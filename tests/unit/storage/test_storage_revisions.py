"""The chain of revisions, who runs on which, and what their SQL does to others."""

import pytest
from alembic.script import ScriptDirectory

from app.errors import ConfigError
from app.storage.migrations.locks import Lock, locks
from app.storage.revisions import ONE_BACK, Revisions, accepted, config_of_alembic, sql
from tests import squawk


def test_squawk_finds_nothing_in_any_revision_up_or_down() -> None:
    assert list(squawk.problems()) == []


def test_squawk_finds_a_column_that_stops_writers_and_a_statement_without_a_limit() -> None:
    broken = {line.split(":")[0] for line in squawk.found("ALTER TABLE leads ADD COLUMN x text NOT NULL;", [])}
    assert {"adding-required-field", "require-lock-timeout", "require-statement-timeout"} <= broken


def test_a_revision_that_changes_a_type_in_place_is_found() -> None:
    text = (sql(Revisions().path(None, "0001")[0], "postgresql") or "").replace(
        "COMMIT;", "ALTER TABLE leads_of_before ALTER COLUMN name TYPE varchar(400);\nCOMMIT;"
    )
    every = list(squawk.rules()["every"])
    assert [line.split(":")[0] for line in squawk.found(text, every)] == ["changing-column-type"]


def test_every_rule_that_is_left_out_says_why_and_is_needed() -> None:
    among = squawk.rules()
    assert all(len(reason) > 20 for part in among.values() for reason in part.values())
    needed: dict[str, set[str]] = {part: set() for part in among}
    for step in squawk.steps():
        way = "up" if step.up else "down"
        broken = {line.split(":")[0] for line in squawk.found(sql(step, "postgresql") or "", [])}
        for part in ("every", way, f"{way}-{step.revision}"):
            needed.setdefault(part, set()).update(broken)
    assert {part: set(rules) - needed[part] for part, rules in among.items()} == {part: set() for part in among}


@pytest.mark.parametrize(
    ("current", "target", "names", "up"),
    [
        (None, "0002", ["0001", "0002"], True),
        ("0001", "0003", ["0002", "0003"], True),
        ("0003", "0001", ["0003", "0002"], False),
        ("0002", None, ["0002", "0001"], False),
        ("0002", "0002", [], True),
    ],
)
def test_a_path_goes_revision_by_revision(current: str | None, target: str | None, names: list[str], up: bool) -> None:
    steps = Revisions().path(current, target)
    assert [step.revision for step in steps] == names
    assert all(step.up is up for step in steps)
    if steps:
        assert (steps[0].before, steps[-1].after) == (current, target)


def test_one_back_is_the_revision_before_and_nothing_below_the_first() -> None:
    known = Revisions()
    assert known.named(ONE_BACK, "0003") == "0002"
    assert known.named(ONE_BACK, "0001") is None
    assert known.named(ONE_BACK, None) is None


def test_a_revision_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="There is no revision '9999'"):
        Revisions().named("9999", None)
    with pytest.raises(ConfigError, match="written by a newer one"):
        Revisions().path("9999", "0001")


def test_a_revision_accepts_what_the_one_before_did_unless_it_names_the_oldest() -> None:
    scripts = ScriptDirectory.from_config(config_of_alembic())
    assert accepted(scripts, "0003") == ["0001", "0002", "0003"]
    assert accepted(scripts, "0004") == ["0004"]
    assert accepted(scripts, "0005") == ["0004", "0005"]


def test_a_plan_names_the_locks_on_tables_that_are_there_and_no_others() -> None:
    found = locks(
        """SET lock_timeout = '100ms';
CREATE TABLE fresh (id text, old text REFERENCES leads (id));
CREATE INDEX ix_fresh ON fresh (id);
CREATE INDEX ix_slow ON leads (name);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ix_fast ON documents (slug);
ALTER TABLE chunks ADD CONSTRAINT fk_x FOREIGN KEY (document_id) REFERENCES documents (id) NOT VALID;
ALTER TABLE chunks VALIDATE CONSTRAINT fk_x;
ALTER TABLE bots ADD COLUMN more text;
DROP INDEX CONCURRENTLY IF EXISTS ix_gone;
UPDATE alembic_version SET version_num='0009';
"""
    )
    assert [(lock.table, lock.mode) for lock in found] == [
        ("leads", "SHARE ROW EXCLUSIVE"),
        ("leads", "SHARE"),
        ("documents", "SHARE UPDATE EXCLUSIVE"),
        ("chunks", "SHARE ROW EXCLUSIVE"),
        ("documents", "SHARE ROW EXCLUSIVE"),
        ("chunks", "SHARE UPDATE EXCLUSIVE"),
        ("bots", "ACCESS EXCLUSIVE"),
        ("ix_gone", "SHARE UPDATE EXCLUSIVE"),
    ]
    assert found[2] == Lock("documents", "SHARE UPDATE EXCLUSIVE", "neither reads nor writes")


def test_policies_are_said_to_lock_their_tables_and_a_new_table_nobody() -> None:
    [policies, programs] = Revisions().path("0003", "0005")
    assert Lock("leads", "ACCESS EXCLUSIVE", "reads and writes") in locks(sql(policies, "postgresql") or "")
    assert locks(sql(programs, "postgresql") or "") == []
