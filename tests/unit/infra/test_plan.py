"""What `make plan` prints, and with which exit code; budgets."""

import json
import re

import pytest
from rich.console import Console

from infra import plan as planning
from infra import report, review
from infra.capacity import Line, short
from infra.errors import InfraError
from infra.phases import PHASES, PhaseName
from infra.plan import Plan, main, show
from infra.policy.finding import Finding
from infra.review import Spent
from tests.support.infra import STACK, URN, graph, resource

VPC = resource("vpc", "aws:ec2/vpc:Vpc", protect=True)
WAY_IN = resource("api", "aws:lb/loadBalancer:LoadBalancer", inputs={"internal": False})
SERVICE = resource(
    "svc",
    "kubernetes:core/v1:Service",
    inputs={"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "trellis"}},
)


def a_plan(*, usd=100.0, findings=(), notes=(), carried=()):
    parts = {"compute": usd, "network": 30.0, "database": 20.0, "other": 1.0}
    spent = {PhaseName.SMALL: {part: Spent(cost, estimate=part == "network") for part, cost in parts.items()}}
    found = {STACK: graph(VPC, WAY_IN, SERVICE)}
    every = {PhaseName.SMALL: carried}
    return Plan(found, spent, findings, [*review.exceeded(spent), *short(every)], notes, every)


@pytest.fixture
def planned(monkeypatch):
    def given(**how):
        monkeypatch.setattr(planning, "planned", lambda phase, region: a_plan(**how))

    return given


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--phase", "larg"], "There is no phase 'larg'"),
        (["--phase", "small", "--region", "eu-north-9"], "The region 'eu-north-9' is not in infra/regions.py"),
        (["--region", "eu-central-1"], "A region alone is no stack"),
        (["--phase", "multi-region", "--region", "eu-west-1"], "add 'eu-west-1' to its regions"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence_and_exit_code_2(arguments, said, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_a_plan_shows_its_tree_its_money_and_that_rules_are_kept(planned, capsys):
    planned(notes=["a note"])
    assert main(["--phase", "small"]) == 0
    shown = capsys.readouterr().out
    assert "vpc Vpc protected" in shown
    assert "public: an internet-facing load balancer" in shown
    assert "Every rule is kept." in shown
    assert "together" in shown
    assert "~30" in shown
    assert "~20" not in shown
    assert "note: a note" in shown


def test_a_broken_rule_is_shown_and_exit_code_1(planned, capsys):
    planned(findings=[Finding(STACK, f"{URN}aws:ec2/vpc:Vpc::vpc", "tags", "It has no tag 'phase'.")])
    assert main([]) == 1
    assert "It has no tag 'phase'." in capsys.readouterr().out


def test_a_budget_that_is_exceeded_names_the_largest_parts_and_exit_code_2(planned, capsys):
    planned(usd=600.0)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "error: The phase 'small' would cost 651 USD a month and its budget is 500: the largest parts are compute 600, "
        "network 30, database 20. Take smaller sizes, or raise the budget, in infra/phases.py.\n"
    )


@pytest.mark.parametrize("phase", list(PHASES))
def test_a_budget_is_exceeded_by_the_first_dollar_above_it(phase):
    limit = float(PHASES[phase].budget_usd_month)
    compute, other = Spent(limit, estimate=False), Spent(1.0, estimate=False)
    assert review.exceeded({phase: {"compute": compute}}) == []
    assert len(review.exceeded({phase: {"compute": compute, "other": other}})) == 1


def test_what_is_printed_does_not_depend_on_who_looks(planned, capsys, monkeypatch):
    planned()
    printed = []
    for columns in ("40", "400"):
        monkeypatch.setenv("COLUMNS", columns)
        main([])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_files_are_written_by_stack_with_a_picture_of_the_phase_and_none_left_of_an_earlier_plan(tmp_path):
    report.write_all({STACK: graph(VPC, SERVICE)}, tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert files == {
        "small.svg",
        f"{STACK}/graph.json",
        f"{STACK}/architecture.svg",
        f"{STACK}/manifests/000-service-trellis-api.yaml",
    }
    assert json.loads((tmp_path / STACK / "graph.json").read_text())["stack"] == STACK
    report.write_all({STACK: graph(VPC)}, tmp_path)
    assert list((tmp_path / STACK / "manifests").glob("*.yaml")) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="The plan cannot be written to"):
        report.write_all({STACK: graph(VPC)}, tmp_path / "file")


def test_a_name_with_brackets_is_shown_as_it_is():
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(report.tree(graph(resource("pods[red]"))))
    assert "pods[red]" in shown.get()


def test_without_a_phase_the_trees_are_left_out():
    console = Console(width=160)
    with console.capture() as shown:
        show(a_plan(), console, trees=False)
    assert "Vpc" not in shown.get()
    assert STACK in shown.get()


def test_what_replicas_carry_is_in_the_table_and_too_few_of_them_are_refused(planned, capsys):
    enough, few = (
        Line(PhaseName.SMALL, "questions", "replicas at the most", replicas, 2.5, 10.0, 2) for replicas in (5, 3)
    )
    planned(carried=[enough])
    assert main([]) == 0
    assert re.search(r"questions, 2x .* 5 .* 2\.5 .* 12\.5 .* 10 .* enough", capsys.readouterr().out)
    planned(carried=[few])
    assert main([]) == 2
    printed = capsys.readouterr()
    assert re.search(r"questions, 2x .* 3 .* 2\.5 .* 7\.5 .* 10 .* short", printed.out)
    assert "error: The phase 'small' is to carry 2 times 5 questions" in printed.err


def test_a_phase_that_was_not_measured_says_so(planned, capsys):
    planned()
    assert main([]) == 0
    assert "not measured" in capsys.readouterr().out
