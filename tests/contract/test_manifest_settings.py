"""What the manifests tell the app is what the app reads: names, values, commands, secrets, probes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pytest
from typer.main import get_command

from app.cli import cli
from app.settings import PREFIX, Environment, Settings, load_settings
from infra.layout import StackName
from infra.offline import graphs
from infra.outputs import CellOutputs
from infra.phases import PHASES, Phase, PhaseName
from infra.pools import plan
from infra.recording import Graph
from infra.report import manifests
from infra.scrapes import scrapes
from infra.secrets import LOGIN, OWNER, fresh
from infra.settings import Cluster
from loadtest.house.settings import models, pod

STACKS = ("small-eu-central-1-apps", "medium-eu-central-1-apps", "multi-region-us-east-1-apps", "cluster-apps")
SERVED = {"trellis-api", "trellis-worker"}
_EXPANDED = re.compile(r"\$\(([A-Z_]+)\)")
_SERVICE = re.compile(r"[/@]([a-z0-9-]+)\.(trellis(?:-[a-z]+)?):(\d+)")
"""The address of a Service of ours, in another one's settings."""


@dataclass(frozen=True)
class Run:
    """A container of a pod of a manifest."""

    stack: str
    namespace: str
    pod: Mapping[str, Any]
    spec: Mapping[str, Any]

    @property
    def variables(self) -> Sequence[Mapping[str, Any]]:
        return self.spec.get("env") or []

    @property
    def ours(self) -> bool:
        """Whether it runs `trellis`, and not something beside it."""
        return "trellis/app@" in self.spec["image"] and "command" not in self.spec

    @property
    def name(self) -> str:
        return str(self.spec["name"])


def _cell() -> dict[str, str]:
    """What an infra stack would export."""
    return {
        **{field.name: f"{field.name.replace('_', '-')}.example" for field in fields(CellOutputs)},
        "vpc_cidr": "10.20.0.0/16",
        "store_networks": "10.20.0.0/16,10.40.0.0/16",
        "balancer_cidrs": "10.20.0.0/22,10.20.4.0/22",
        "database_reader": "reader-1.example,reader-2.example",
        "cache_endpoint": "clustercfg.trellis-cache.example",
    }


@pytest.fixture(scope="module")
def found() -> Mapping[str, Graph]:
    cells = {name.replace("-apps", "-infra"): _cell() for name in STACKS if name != "cluster-apps"}
    return graphs(STACKS, outputs=cells)


@pytest.fixture(scope="module")
def runs(found: Mapping[str, Graph]) -> Sequence[Run]:
    return [run for stack, graph in found.items() for manifest in manifests(graph) for run in _runs(stack, manifest)]


def _runs(stack: str, manifest: Mapping[str, Any]) -> Iterator[Run]:
    template = manifest.get("spec") or {}
    if manifest["kind"] == "CronJob":
        template = template["jobTemplate"]["spec"]
    pod = template.get("template")
    if manifest["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob") and pod is not None:
        for spec in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]:
            yield Run(stack, manifest["metadata"]["namespace"], pod, spec)


def _phase(stack: str) -> Phase:
    name = StackName.parse(stack).phase
    # What the stack's file says.
    return PHASES[name] if name is not None else PHASES["small"]  # type: ignore[index]


def _values(run: Run) -> Mapping[str, str]:
    """The environment as the kubelet makes it, with values that `infra.secrets` made."""
    values, secrets = dict[str, str](), fresh("sk-hosted")
    for variable in run.variables:
        source = variable.get("valueFrom")
        if source is None:
            text = variable.get("value") or ""
            values[variable["name"]] = _EXPANDED.sub(lambda match: values[match.group(1)], text)
        elif "secretKeyRef" in source:
            values[variable["name"]] = secrets[source["secretKeyRef"]["key"]]
    return values


def _settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> Settings:
    values = {name: value for name, value in _values(run).items() if name.startswith(PREFIX)}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings(values)


def _serving(runs: Sequence[Run], *names: str) -> Sequence[Run]:
    chosen = [run for run in runs if run.ours and run.name in names]
    assert {run.stack for run in chosen} == set(STACKS)
    return chosen


def test_every_variable_of_the_app_is_one_of_its_settings(runs: Sequence[Run]) -> None:
    known = _known()
    for run in runs:
        if run.ours:
            said = {variable["name"] for variable in run.variables if variable["name"].startswith(PREFIX)}
            assert said
            assert said <= known, f"{run.stack}: {run.name} is told {said - known}"


def test_the_processes_start_with_what_they_are_told_as_in_production(
    runs: Sequence[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in _serving(runs, "api", "worker", "migrate"):
        with monkeypatch.context() as within:
            settings = _settings(run, within)
        phase = _phase(run.stack)
        assert settings.environment is Environment.PRODUCTION
        assert settings.targets is phase
        assert settings.pool_size == plan(phase).process
        assert phase.server is not None
        assert settings.database_pooled is (phase.server.poolers > 0)
        assert settings.database_logins == {LOGIN}


def test_the_gates_house_tells_the_app_what_a_pod_of_the_phase_is_told(runs: Sequence[Run]) -> None:
    said = {"host", "port", "home", "otlp_url", "trusted_proxies", "database_url", "database_reader_url"}
    # Addresses, names of an account's own choice, and keys.
    own = said | {"database_direct_url", "redis_url", "vectors_url", "vectors_key", "region"}
    for run in _serving(runs, "api", "worker"):
        phase = _phase(run.stack)
        if run.stack == "cluster-apps" or phase.name is PhaseName.MULTI_REGION:
            continue
        told = {name.removeprefix(PREFIX).lower(): value for name, value in _values(run).items()}
        house = {**pod(phase), **models(phase, "http://model/v1")}
        if phase.models is not None:
            # Ours ask for none; the stub in their place does.
            del house["model_key"]
        assert set(house) <= set(told), f"{run.stack}: {run.name}"
        left = own | {name for name in told if name.startswith("model_") or name.endswith("_secret")}
        assert {name: str(value) for name, value in house.items() if name not in left} == {
            name: value for name, value in told.items() if name not in left and f"{PREFIX}{name}".upper() in _known()
        }
        assert {name for name in told if name.startswith("model_")} == {name for name in house if "model_" in name}


def _known() -> set[str]:
    return {f"{PREFIX}{name}".upper() for name in Settings.model_fields}


def test_only_a_migration_knows_the_login_that_owns_the_tables(
    runs: Sequence[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in _serving(runs, "api", "worker", "migrate"):
        with monkeypatch.context() as within:
            settings = _settings(run, within)
        if run.name == "migrate":
            assert OWNER in settings.owner_database_url
            assert "pgbouncer" not in settings.owner_database_url
        else:
            assert settings.database_owner_url is None
            assert not [variable for variable in run.variables if "OWNER" in variable["name"]]


def test_what_keeps_a_session_goes_past_the_pooler(runs: Sequence[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    for run in _serving(runs, "api", "worker"):
        with monkeypatch.context() as within:
            settings = _settings(run, within)
        if settings.database_pooled:
            assert "pgbouncer-writer" in settings.sqlalchemy_url
            assert ("pgbouncer" in settings.direct_database_url) is (run.name == "api")


def test_a_pod_may_take_as_long_to_end_as_the_app_does(runs: Sequence[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    for run in _serving(runs, "api", "worker"):
        with monkeypatch.context() as within:
            settings = _settings(run, within)
        assert run.pod["spec"]["terminationGracePeriodSeconds"] > settings.drain_s + settings.shutdown_grace_s


def test_a_variable_that_another_is_made_of_comes_before_it(runs: Sequence[Run]) -> None:
    for run in runs:
        before: set[str] = set()
        for variable in run.variables:
            assert set(_EXPANDED.findall(variable.get("value") or "")) <= before, f"{run.stack}: {variable['name']}"
            before.add(variable["name"])


def test_what_a_container_runs_is_a_command(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.ours:
            command: Any = get_command(cli)
            words = list(run.spec["args"])
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            assert not [word for word in words if word.startswith("-") and word not in _options(command)]


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_every_key_of_a_secret_is_there(runs: Sequence[Run], found: Mapping[str, Graph]) -> None:
    for run in runs:
        there = _keys(found[run.stack], run.namespace)
        for name, key in _asked(run):
            assert key in there.get(name, ()), f"{run.stack}: {run.name} asks {run.namespace}/{name} for {key}"


def _keys(graph: Graph, namespace: str) -> Mapping[str, set[str]]:
    """By Secret: its keys, as External Secrets or `infra.secrets` make it."""
    if not graph.of("kubernetes:external-secrets.io/v1:ExternalSecret"):
        name = next(field.default for field in fields(Cluster) if field.name == "secrets")
        return {str(name): set(fresh("key"))}
    made = [
        manifest
        for manifest in manifests(graph)
        if manifest["kind"] == "ExternalSecret" and manifest["metadata"]["namespace"] == namespace
    ]
    return {
        one["spec"]["target"]["name"]: set((one["spec"]["target"].get("template") or {}).get("data") or {})
        | {item["secretKey"] for item in one["spec"].get("data") or []}
        for one in made
    }


def _asked(run: Run) -> Iterator[tuple[str, str]]:
    """Of variables, and of volumes that the container mounts."""
    for variable in run.variables:
        source = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if source is not None and not source.get("optional"):
            yield source["name"], source["key"]
    mounted = {mount["name"] for mount in run.spec.get("volumeMounts") or []}
    for volume in run.pod["spec"].get("volumes") or []:
        source = volume.get("secret")
        if source is not None and volume["name"] in mounted and not source.get("optional"):
            for item in source.get("items") or []:
                yield source["secretName"], item["key"]


def test_every_service_that_the_app_is_led_to_is_there(runs: Sequence[Run], found: Mapping[str, Graph]) -> None:
    for stack, graph in found.items():
        there = {
            (one["metadata"]["namespace"], one["metadata"]["name"], port["port"])
            for one in manifests(graph)
            if one["kind"] == "Service"
            for port in one["spec"]["ports"]
        }
        asked = {
            (namespace, name, int(port))
            for run in runs
            if run.stack == stack and run.ours
            for variable in run.variables
            for name, namespace, port in _SERVICE.findall(variable.get("value") or "")
        }
        assert {("trellis-data", "qdrant", 6333), ("trellis-telemetry", "otel-collector", 4318)} <= asked
        assert asked <= there, f"{stack}: {asked - there}"


def test_prometheus_finds_every_process_of_the_app_and_of_its_stores(runs: Sequence[Run]) -> None:
    ours = SERVED | {"pgbouncer", "qdrant"}
    for stack in STACKS:
        there = {
            (run.pod["metadata"]["labels"]["app.kubernetes.io/name"], port["containerPort"])
            for run in runs
            if run.stack == stack
            for port in run.spec.get("ports") or []
        }
        wanted = {(scrape.job, scrape.port) for scrape in scrapes(_phase(stack)) if scrape.job in ours}
        assert wanted
        assert wanted <= there
