"""A question's purse and time, what counts as evidence, and the teams that ship."""

from pathlib import Path

import pytest
import yaml

from app.agent.tools import OutcomeState, ToolOutcome
from app.errors import ConfigError, InvalidInput
from app.packs.teams.evidence import EvidenceBook
from app.packs.teams.limits import Limits, LimitsIn, Purse, Timeline, narrowed
from app.packs.teams.members import also_tools
from app.packs.teams.offline import offline_rules
from app.packs.teams.pack import ROOT
from app.packs.teams.team import Teams


def test_shares_are_equal_parts_and_joining_is_kept() -> None:
    purse = Purse(Limits(tokens=1_000, cost_micros=100))
    first, second = purse.share(2), purse.share(1)
    assert (first.tokens, first.cost_micros, second.tokens) == (400, 40, 400)
    assert purse.share(1).tokens == 0
    assert purse.joining(last=True).tokens == 200


def test_what_a_share_did_not_use_goes_to_the_others_but_not_where_it_may_still_be_used() -> None:
    purse = Purse(Limits(tokens=1_000, cost_micros=0))
    ended, hanging = purse.share(2), purse.share(1)
    ended.tally.tokens = 100
    purse.settle(ended, ended=True)
    purse.settle(hanging, ended=False)
    assert (purse.tokens, purse.left[0], purse.share(1).tokens) == (100, 500, 300)


def test_time_is_kept_for_joining_and_shared_among_those_that_follow_each_other() -> None:
    now = [0.0]
    time = Timeline(40, lambda: now[0])
    assert (time.planning(), time.work_end, time.working(2)) == (8, 30, 15)
    now[0] = 25
    assert (time.planning(), time.working(1), time.joining(last=False), time.joining(last=True)) == (30, 30, 35, 40)
    assert not time.another_round()
    assert time.told(30) == 29.75


def test_limits_may_be_narrowed_and_not_widened() -> None:
    found = narrowed(Limits(), LimitsIn(seconds=5, cost_usd=0.01))
    assert (found.seconds, found.cost_micros, found.tokens) == (5, 10_000, Limits().tokens)
    with pytest.raises(InvalidInput, match=r"'limits\.cost_usd' may be at most 0\.5"):
        narrowed(Limits(), LimitsIn(cost_usd=0.6))


def book(*results: object) -> EvidenceBook:
    found = EvidenceBook()
    for result in results:
        found.tell(ToolOutcome("desk", "k", OutcomeState.DONE, result))
    return found


def test_evidence_is_a_look_up_or_a_row_inside_one() -> None:
    known = book({"rows": [{"id": "a", "title": "First", "text": "One."}, {"number": 7, "note": "x"}]}, ["plain"])
    found, unknown = known.checked(["a", "7", "desk-2", "a", "desk-3", "First"], 4, "tickets")
    assert [(one.id, one.title, one.quote) for one in found] == [
        ("4:a", "First", "One."),
        ("4:7", "", '{"number":7,"note":"x"}'),
        ("4:desk-2", "", '["plain"]'),
    ]
    assert unknown == ["desk-3", "First"]


def test_further_tools_are_given_by_patterns() -> None:
    names = ["mcp_hub_issues", "mcp_hub_pulls", "client_list"]
    assert also_tools("tickets: mcp_hub_*, activity:client_list,nonsense,x:", names) == {
        "tickets": ["mcp_hub_issues", "mcp_hub_pulls"],
        "activity": ["client_list"],
    }


def test_every_member_that_ships_has_a_prompt_and_an_offline_rule_and_hints() -> None:
    prompts = {path.stem for path in (ROOT / "prompts").glob("*.yaml")}
    hints = yaml.safe_load((ROOT / "offline.yaml").read_text("utf-8"))
    members = [member for team in Teams.load().all() for member in team.members]
    assert {member.prompt for member in members} | {"teams_plan", "teams_join"} == prompts == set(offline_rules())
    assert {member.name for member in members} == set(hints)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("teams: []", "wrong at teams"), ("teams: [", "cannot be read"), ("teams:\n- {name: A}", r"teams\.0\.name")],
)
def test_a_file_of_teams_that_is_wrong_is_refused_with_the_place(tmp_path: Path, text: str, wrong: str) -> None:
    file = tmp_path / "teams.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=wrong):
        Teams.load(file)
