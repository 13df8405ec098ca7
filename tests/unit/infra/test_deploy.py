"""Order, interruption, refusals and the account, with an engine that only remembers."""

import shutil
from dataclasses import fields

import pytest

from infra import deploy as deploying
from infra import engine as engines
from infra.deploy import asked, deploy, destroy
from infra.engine import AutomationEngine, in_account, reason
from infra.errors import InfraError
from infra.files import file_of
from infra.layout import StackName, stacks_of
from infra.outputs import CellOutputs
from infra.phases import PHASES, PhaseName
from tests.support.infra import CELL, stack_file

SMALL = stacks_of(PHASES[PhaseName.SMALL])
WIDE = stacks_of(PHASES[PhaseName.MULTI_REGION])
OUTPUTS = [field.name for field in fields(CellOutputs)]


class Remembering:
    """Knows what stands; stops where it is told to."""

    def __init__(self, standing=(), stop_at="", changes=None):
        self.made = dict.fromkeys(standing, OUTPUTS)
        self.done = []
        self._stop_at = stop_at
        self._changes = changes or {"create": 3, "same": 1}

    def standing(self):
        return list(self.made)

    def outputs(self, stack):
        return self.made.get(stack, ())

    def preview(self, stack):
        return self._changes

    def up(self, stack, tell):
        self._do("up", stack)
        self.made[stack] = OUTPUTS

    def destroy(self, stack, tell):
        self._do("down", stack)
        del self.made[stack]

    def _do(self, what, stack):
        if stack == self._stop_at:
            self.made.setdefault(stack, ["vpc"])
            raise KeyboardInterrupt
        self.done.append((what, stack))


def yes(_question):
    return True


def silent(_line):
    return None


def test_a_phase_is_made_in_order_and_taken_down_in_the_opposite_one():
    engine = Remembering()
    deploy(WIDE, engine, silent, yes)
    assert [stack for _, stack in engine.done] == list(map(str, WIDE))
    engine.done.clear()
    destroy(WIDE, engine, silent, yes)
    assert engine.done == [("down", str(stack)) for stack in reversed(WIDE)]
    assert engine.made == {}


@pytest.mark.parametrize("made", [(), ("multi-region-us-east-1-infra",)])
def test_a_stack_whose_outputs_are_not_there_is_not_begun(made):
    engine = Remembering(made)
    if made:
        engine.made[made[0]] = OUTPUTS[:1]
    region = [stack for stack in WIDE if stack.region == "eu-central-1"]
    with pytest.raises(InfraError, match="reads outputs of 'multi-region-us-east-1-infra', which is not made yet"):
        deploy(region, engine, silent, yes)
    assert engine.done == []


def test_a_region_is_made_alone_where_what_it_reads_stands():
    engine = Remembering(["multi-region-us-east-1-infra"])
    region = [stack for stack in WIDE if stack.region == "eu-central-1"]
    deploy(region, engine, silent, yes)
    assert len(engine.done) == 2


def test_what_others_stand_on_is_not_taken_down():
    engine = Remembering(map(str, WIDE))
    with pytest.raises(InfraError, match="still stands on what would be taken down: destroy it first"):
        destroy([stack for stack in WIDE if stack.region == "us-east-1"], engine, silent, yes)
    assert engine.done == []


def test_an_interrupted_run_says_what_is_left_and_goes_on_when_run_again():
    said = []
    engine = Remembering(stop_at=str(SMALL[1]))
    with pytest.raises(KeyboardInterrupt):
        deploy(SMALL, engine, said.append, yes)
    assert said[-1] == f"Ended early. Already made: {SMALL[0]}. Still to be made: {SMALL[1]}."
    engine._stop_at = ""
    deploy(SMALL, engine, said.append, yes)
    assert engine.done[-1] == ("up", str(SMALL[1]))
    assert said[-1] == f"All made: {SMALL[0]}, {SMALL[1]}."


def test_nothing_is_changed_that_nobody_agreed_to():
    engine = Remembering()
    with pytest.raises(InfraError, match="Stopped before 'small-eu-central-1-infra'"):
        deploy(SMALL, engine, silent, lambda question: "3 to create" not in question)
    standing = Remembering(map(str, SMALL))
    with pytest.raises(InfraError, match="nothing was taken down"):
        destroy(SMALL, standing, silent, lambda _: False)
    assert engine.done == standing.done == []


def test_what_is_as_it_should_be_is_not_asked_about():
    engine = Remembering(changes={"same": 40})
    deploy(SMALL, engine, silent, lambda _: pytest.fail("asked"))
    assert engine.done == []


def test_what_was_never_made_is_left_out_and_stacks_of_others_do_not_matter():
    said = []
    engine = Remembering([str(SMALL[0]), "scratch"])
    destroy(SMALL, engine, said.append, yes)
    assert engine.done == [("down", str(SMALL[0]))]
    destroy(SMALL, engine, said.append, yes)
    assert "nothing to take down" in said[-1]


def test_where_nobody_sits_it_says_how_to_go_on_without_asking(monkeypatch):
    def nobody(_question):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    with pytest.raises(InfraError, match="YES=1"):
        asked("Make it?")


def test_an_engine_that_is_not_installed_is_one_sentence_and_nothing_is_made(monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert deploying.main(["up", "--phase", "small"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: The Pulumi engine is not installed: put `pulumi` on the PATH")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_phase_that_is_not_there_is_refused_before_the_engine(capsys):
    assert deploying.main(["down", "--phase", "larg"]) == 2
    assert "There is no phase 'larg'" in capsys.readouterr().err
    assert deploying.main(["up"]) == 2
    assert "Say which phase (PHASE=)" in capsys.readouterr().err


def test_what_pulumi_refuses_is_said_by_its_line_and_for_what_is_protected_what_to_do():
    assert reason("noise\n  error: no AWS region\nmore", "s") == "error: no AWS region"
    assert "pulumi state unprotect --all --stack s" in reason("error: resource x cannot be deleted: is protected", "s")
    assert reason("", "s") == "no reason given"


@pytest.fixture
def aws(tmp_path, monkeypatch):
    """AWS's command line that answers as it is told; the stacks' files name account 222222222222."""
    stack_file(tmp_path, str(SMALL[0]), CELL)
    stack_file(tmp_path, str(SMALL[1]), {"account": CELL["account"], "domain": "agents.trellis.test"})
    monkeypatch.setattr(engines, "file_of", lambda stack: file_of(stack, tmp_path))

    def answering(script):
        command = tmp_path / "aws"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: str(command) if name == "aws" else None)

    return answering


def test_another_account_is_refused_and_the_right_one_is_not(aws):
    aws("echo 222222222222")
    in_account(SMALL, silent)
    aws("echo 333333333333")
    with pytest.raises(InfraError, match="credentials are of the account 333333333333, the stacks are of 222222222222"):
        in_account(SMALL, silent)


def test_credentials_that_aws_does_not_know_are_one_sentence(aws):
    aws("echo 'Unable to locate credentials' >&2; exit 253")
    with pytest.raises(InfraError, match="AWS does not know who you are: Unable to locate credentials"):
        in_account(SMALL, silent)


def test_without_the_command_line_the_provider_checks_the_account_and_it_is_said(aws, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    said = []
    in_account(SMALL, said.append)
    assert "checked by the provider" in said[0]


def test_a_stack_on_a_cluster_of_ones_own_has_no_account(aws, tmp_path, monkeypatch):
    stack_file(tmp_path, "cluster-apps", {"phase": "small"})
    aws("exit 9")
    said = []
    in_account([StackName.parse("cluster-apps")], said.append)
    assert said == []


class TestPulumisCommandLine:
    """Through Pulumi's own Automation API, with a command line that answers as the real one does."""

    @pytest.fixture
    def engine(self, tmp_path, monkeypatch):
        command = tmp_path / "pulumi"
        command.write_text(COMMAND)
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
        return AutomationEngine(tmp_path), tmp_path / "calls"

    def test_what_stands_is_what_has_resources(self, engine):
        assert engine[0].standing() == ["small-eu-central-1-infra"]

    def test_outputs_are_asked_of_what_stands_only(self, engine):
        assert list(engine[0].outputs("small-eu-central-1-infra")) == ["vpc"]
        assert list(engine[0].outputs("small-eu-central-1-apps")) == []

    def test_a_refusal_is_one_sentence_of_the_stack(self, engine):
        with pytest.raises(InfraError, match="Pulumi refused 'poc-eu-central-1': error: no credentials"):
            engine[0].up("poc-eu-central-1", silent)

    def test_programs_are_run_with_the_repositorys_uv_and_nothing_is_installed(self, engine):
        engine[0].standing()
        assert ".tools/bin:" in engine[1].read_text()
        assert "UV_NO_DEFAULT_GROUPS=1" in engine[1].read_text()


COMMAND = """#!/bin/sh
echo "$PATH UV_NO_DEFAULT_GROUPS=$UV_NO_DEFAULT_GROUPS $*" >> "$CALLS"
case "$*" in
  version*) echo v3.272.0 ;;
  *"stack ls"*) echo '[{"name": "small-eu-central-1-infra", "current": false, "resourceCount": 9, "url": ""},
    {"name": "small-eu-central-1-apps", "current": false, "resourceCount": 0, "url": ""}]' ;;
  *"stack output"*) echo '{"vpc": "vpc-1"}' ;;
  *"stack select"*|*"stack init"*) ;;
  *) echo "error: no credentials" >&2; exit 255 ;;
esac
"""
