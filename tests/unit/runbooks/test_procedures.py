"""Procedures: each is there, says what a page says, and is found from the alerts whose fix it is."""

import re

import pytest

from runbooks.pages import Kind
from tests.support.runbooks import PROCEDURES, RUNBOOKS, pages, texts

WANTED = frozenset(
    {
        *("deploy", "blue-green-rollback", "schema-downgrade", "index-rollback", "flags", "provider-failover"),
        *("point-in-time-restore", "postgres-failover", "redis-resharding", "qdrant-restore", "region-evacuation"),
        *("promote-a-phase", "rotate-secrets", "erase-a-person", "cost-runaway", "key-abuse", "certificate"),
        *("queue-backlog", "gpu-fault"),
    }
)
# Nobody is woken for these: a plan or a request is where they begin.
PLANNED = frozenset({"erase-a-person", "schema-downgrade", "deploy"})


def test_there_is_one_for_each_thing_that_is_done_by_hand() -> None:
    assert PROCEDURES.keys() == WANTED


@pytest.mark.parametrize("name", PROCEDURES)
def test_it_verifies_changes_and_says_how_it_is_seen_that_it_worked(name: str) -> None:
    page = pages()[f"procedures/{name}"]
    assert page.of("Verify")
    assert Kind.MUTATE in {block.kind for block in page.of("Mitigate")}
    assert page.of("Verify recovery")
    assert [title for title, body in page.sections.items() if len(body.split()) < 8] == []


@pytest.mark.parametrize("name", PROCEDURES)
def test_the_way_back_says_how_long_it_takes_and_what_is_lost(name: str) -> None:
    words = pages()[f"procedures/{name}"].sections["Rollback"].lower()
    assert re.search(r"second|minute|hour|at once|as long as|\d s\b|no way back|cannot", words)
    assert re.search(r"los[est]|nothing|no data|touched|kept", words)


@pytest.mark.parametrize("name", sorted(WANTED - PLANNED))
def test_an_alert_leads_to_it(name: str) -> None:
    assert [page for page, text in texts().items() if f"../procedures/{name}.md" in text and page[:7] == "alerts/"]


def test_the_index_lists_every_one_of_them() -> None:
    index = (RUNBOOKS / "README.md").read_text()
    assert [name for name in PROCEDURES if f"(procedures/{name}.md)" not in index] == []
