"""The rollbacks that CI rehearses: the system is broken, the page's own commands mend it, nothing is lost."""

from pathlib import Path
from shutil import copytree

import pytest

from runbooks.drill.rehearsal import Rehearsal
from runbooks.drill.rehearsals import REHEARSALS
from runbooks.drill.run import PAGES, drill
from runbooks.drill.table import Outcome
from runbooks.pages import read_page
from tests.support.components import require

FIVE = [rehearsal for rehearsal in REHEARSALS if rehearsal.ci]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A copy: the repository's own pages are stamped by `make drill` alone."""
    for folder in ("alerts", "procedures"):
        copytree(PAGES / folder, tmp_path / folder)
    return tmp_path


def test_ci_rehearses_the_five_rollbacks():
    wanted = {"schema-downgrade", "index-rollback", "blue-green-rollback", "flags", "provider-failover"}
    assert {rehearsal.name for rehearsal in FIVE} == wanted


@pytest.mark.parametrize("rehearsal", FIVE, ids=lambda rehearsal: rehearsal.name)
async def test_a_page_mends_what_was_broken_on_purpose(rehearsal: Rehearsal, pages: Path):
    for need in rehearsal.needs:
        require(need)
    told: list[str] = []
    found = await drill(rehearsal, told.append, pages=pages)
    assert found.outcome is Outcome.RECOVERED, "\n".join([*told, found.why])
    assert found.lost.startswith(("nothing", "no data"))
    last = read_page(pages / f"{rehearsal.page}.md").last_drilled
    assert last.endswith("lost") or " lost (" in last


async def test_a_page_whose_command_is_wrong_fails_the_drill_and_is_not_stamped(pages: Path):
    rehearsal = next(each for each in FIVE if each.name == "flags")
    for need in rehearsal.needs:
        require(need)
    path = pages / f"{rehearsal.page}.md"
    text = path.read_text()
    path.write_text(text.replace('"kill.$PACK" true', '"stop.$PACK" true'))
    wrong = path.read_text()
    found = await drill(rehearsal, print, pages=pages)
    assert found.outcome is Outcome.FAILED
    assert "(Mitigate, step 1)" in found.why
    assert "There is no flag 'stop.chat'" in found.why
    assert path.read_text() == wrong != text
