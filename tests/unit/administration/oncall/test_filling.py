"""Labels in commands: a shell reads each as one word, whatever it holds and wherever it stands."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.administration.oncall.alerts import Alert
from app.administration.oncall.filling import exported, filled, used, variables
from tests.support.examples import examples

EVIL = "'; touch /nowhere/x; echo $(id) \"`id`\" $HOME \\ !x '"
PLACES = (
    "printf '%s.' $POD",
    "printf '%s.' \"$POD\"",
    "printf '%s.' \"${POD}\"",
    'printf \'%s.\' "$(printf %s "$POD")"',
    "(printf '%s.' $POD)",
)


def ran(command: str) -> str:
    return subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", PLACES)
def test_a_label_is_one_word_wherever_it_stands(command: str) -> None:
    assert ran(filled(command, {"POD": EVIL})) == f"{EVIL}."


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40), st.sampled_from(PLACES))
@settings(max_examples=examples(40))
def test_any_label_is_one_word(value: str, command: str) -> None:
    assert ran(filled(command, {"POD": value})) == f"{value}."


def test_it_joins_what_stands_beside_it() -> None:
    assert ran(filled('printf %s "$JOB-again"', {"JOB": "a b"})) == "a b-again"
    assert ran(filled("printf %s x$JOB.y", {"JOB": "a b"})) == "xa b.y"


def test_harmless_values_stand_as_a_person_would_write_them() -> None:
    values = {"NAMESPACE": "trellis", "POD": "api-blue-7f"}
    assert filled('kubectl -n "$NAMESPACE" logs $POD', values) == 'kubectl -n "trellis" logs api-blue-7f'


def test_what_a_shell_would_not_replace_stays() -> None:
    for command in ("echo '$POD'", "echo \\$POD", "echo $UNKNOWN", 'echo "${POD%%:*}"', "awk '{print $1}'"):
        assert filled(command, {"POD": "x"}) == command


def test_the_line_for_the_shell_sets_what_stays() -> None:
    line = exported({"INSTANCE": "10.0.0.1:80", "POD": EVIL})
    assert ran(f'{line}; printf %s "$POD ${{INSTANCE%%:*}}"') == f"{EVIL} 10.0.0.1"
    assert exported({}) == ""


def test_only_labels_that_all_alerts_share_are_filled_in() -> None:
    first = Alert("A", {"alertname": "A", "pod": "x", "phase": "small", "job": "kube", "job_name": "migrate-1"})
    second = Alert("A", {"alertname": "A", "pod": "y", "phase": "small", "job": "kube", "job_name": "migrate-1"})
    assert variables([first, second]) == {"ALERTNAME": "A", "PHASE": "small", "JOB": "migrate-1"}
    assert variables([first])["POD"] == "x"


def test_placeholders_of_commands_are_found() -> None:
    assert used(['a "$POD" ${PHASE}', "b $POD $1 $lower"]) == {"POD", "PHASE"}


def test_what_a_command_sets_itself_is_none() -> None:
    assert used(["HOST=$(dig $DOMAIN)\ncurl $HOST", "x=1; READY=2; echo $READY"]) == {"DOMAIN"}
