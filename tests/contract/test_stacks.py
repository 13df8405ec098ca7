"""Every stack of the repository, planned: what holds for each of them, and for the program that an engine runs."""

import json
from dataclasses import asdict

import pytest

from infra import plan
from infra.files import STACKS, Configured, configured, file_of, stack_files
from infra.layout import CLUSTER_APPS, StackName, before, stacks_of
from infra.offline import graphs, lent, settings_of
from infra.phases import PHASES
from infra.picture import picture
from infra.recording import HIDDEN
from infra.report import manifests, write_all
from tests import urns
from tests.support import pulumi_program
from tests.support.stacks import every_stack

NAMES = list(stack_files())
ENGINE_RUNS = "small-eu-central-1-infra"


@pytest.fixture(scope="module")
def planned():
    return every_stack()


def test_every_phase_has_a_file_for_each_of_its_stacks_and_there_are_no_others():
    wanted = {str(stack) for phase in PHASES.values() for stack in stacks_of(phase)} | {CLUSTER_APPS}
    assert set(NAMES) == wanted


def test_the_names_of_resources_are_those_that_were_agreed_on(planned):
    assert urns.complaints(planned) == []


def test_two_plans_are_the_same_to_the_byte(planned, tmp_path):
    again = graphs([ENGINE_RUNS])
    write_all({ENGINE_RUNS: planned[ENGINE_RUNS]}, tmp_path / "one")
    write_all(again, tmp_path / "other")
    one, other = ({f.relative_to(p): f.read_bytes() for f in sorted(p.rglob("*.*"))} for p in folders(tmp_path))
    assert one == other
    assert len(one) >= 3


def folders(path):
    return path / "one", path / "other"


@pytest.mark.parametrize("name", NAMES)
def test_a_resource_needs_its_own_stack_and_those_made_before_it_alone(planned, name):
    graph = planned[name]
    known = {resource.urn for resource in graph.resources}
    read = {
        f"urn:pulumi:{name}::trellis::pulumi:pulumi:StackReference::{other}" for other in before(StackName.parse(name))
    }
    assert graph.resources
    for resource in graph.resources:
        assert "::pulumi:pulumi:Stack::" in resource.parent or resource.parent in known
        needed = set(resource.depends_on) - known - read
        assert not needed, f"{resource.urn} needs what is not in its stack: {needed}"


@pytest.mark.parametrize("name", NAMES)
def test_every_resource_is_made_by_the_stacks_own_provider(planned, name):
    graph = planned[name]
    providers = {resource.urn for resource in graph.resources if resource.type.startswith("pulumi:providers:")}
    for resource in graph.resources:
        if resource.custom and resource.urn not in providers:
            assert resource.provider in providers, f"{resource.urn} is made by a provider of Pulumi's choice"


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_in_aws_is_made_in_its_account_alone(planned, name):
    given = configured(file_of(StackName.parse(name))).texts.get("trellis:account")
    for provider in planned[name].of("pulumi:providers:aws"):
        assert json.loads(provider.inputs["allowedAccountIds"]) == [given]


def test_no_two_objects_of_a_cluster_have_one_name(planned):
    for name, graph in planned.items():
        ids = [
            (m["apiVersion"].partition("/")[0], m["kind"], m["metadata"].get("namespace"), m["metadata"].get("name"))
            for m in manifests(graph)
        ]
        assert len(ids) == len(set(ids)), name


def test_no_secret_is_in_what_a_plan_writes(planned):
    for name in NAMES:
        stack = StackName.parse(name)
        given = settings_of(stack, STACKS)
        text = json.dumps(asdict(planned[name]))
        for key in given.encrypted:
            assert HIDDEN in text
            assert f'"{given.texts[key]}"' not in text, key


def test_every_stack_and_every_phase_has_a_picture_of_all_its_parts(planned):
    whole = picture(planned)
    for name, graph in planned.items():
        assert f"{name} · " in whole
        parts = [one for one in graph.resources if not one.custom and "::pulumi:pulumi:Stack::" in one.parent]
        drawn = picture({name: graph})
        assert all(part.name[:20] in drawn for part in parts)


class TestAnotherRegion:
    def test_a_phase_is_planned_in_a_region_that_has_no_file(self):
        name = "poc-us-east-1"
        found = graphs([name])[name]
        assert "us-east-1" in json.dumps(asdict(found))
        assert "eu-central-1" not in json.dumps(asdict(found))
        assert str(lent(StackName.parse(name))) == "poc-eu-central-1"

    def test_it_is_said_whose_settings_were_taken_and_which_secrets_are_missing(self):
        assert list(plan.notes(["poc-us-east-1"])) == [
            "'poc-us-east-1' has no file: planned with the settings of 'poc-eu-central-1'."
        ]
        (note,) = plan.notes(["multi-region-us-east-1-infra"])
        assert "`pulumi config set --secret trellis:databasePassword --stack multi-region-us-east-1-infra`" in note


class TestTheProgramThatAnEngineRuns:
    """`Pulumi.yaml` says `main: infra/`: the engine's host runs that folder, with nothing else of ours on the path."""

    def test_over_grpc_it_asks_for_what_the_plan_says(self, planned):
        given = settings_of(StackName.parse(ENGINE_RUNS), STACKS)
        ran, monitor, engine = pulumi_program.run(ENGINE_RUNS, "eu-central-1", given, {})
        assert (ran.returncode, engine.said) == (0, []), ran.stderr
        assert monitor.graph() == planned[ENGINE_RUNS]

    def test_a_wrong_setting_is_one_sentence_and_nothing_is_asked_for(self):
        given = settings_of(StackName.parse(ENGINE_RUNS), STACKS)
        wrong = Configured({**given.texts, "trellis:cidr": "10.20.0.0"})
        ran, monitor, engine = pulumi_program.run(ENGINE_RUNS, "eu-central-1", wrong, {})
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        (sentence,) = engine.said
        assert sentence.startswith("trellis:cidr is '10.20.0.0'")
        assert monitor.graph().resources == []
