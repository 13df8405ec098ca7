"""`cluster-apps` under a real Pulumi engine, on the simulated cluster: wherever an engine and the Kubernetes plugin are
on the path. No package manager of the tests has them, so that where they are not the tests are skipped, and listed."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

from infra.costs.nodes import room
from infra.engine import AutomationEngine
from infra.layout import CLUSTER_APPS
from infra.phases import PHASES, PhaseName
from infra.prices import load_prices
from infra.regions import REGIONS
from tests.cluster.definitions import define
from tests.cluster.karpenter import ZONE, simulate
from tests.cluster.rendered import OTHER_IMAGE, Rendered, cluster_apps
from tests.cluster.running import until_ready
from tests.support.kubernetes import Kubernetes
from tests.support.plane import Plane
from tests.support.plane_build import Built
from tests.support.processes import ROOT

PROGRAMS: Final = ("pulumi", "pulumi-language-python", "pulumi-resource-kubernetes")
PROJECT: Final = ("alerts", "dashboards", "infra", "provisioning", "Pulumi.yaml", "pyproject.toml", "uv.lock")
INSTALLED: Final = (".venv", ".tools")
NODE: Final = "m7g.xlarge"
NODES_A_ZONE: Final = 2
API: Final = "/apis/apps/v1/namespaces/trellis/deployments/api-blue"
LIMIT_S: Final = 900


@dataclass
class Standing:
    """The stack in a copy of the project, with state of its own; `told`: what the engine said of the last `up`."""

    project: Path
    engine: AutomationEngine
    api: Kubernetes
    rendered: Rendered
    told: list[str]

    def configure(self, **settings: str) -> None:
        file = self.project / "infra" / "stacks" / f"Pulumi.{CLUSTER_APPS}.yaml"
        content = yaml.safe_load(file.read_text())
        content["config"] |= {f"trellis:{key}": value for key, value in settings.items()}
        file.write_text(yaml.safe_dump(content))

    def preview(self) -> Mapping[str, int]:
        return self.engine.preview(CLUSTER_APPS)

    def up(self) -> None:
        self.told.clear()
        self.engine.up(CLUSTER_APPS, self.told.append)

    def refreshed(self) -> subprocess.CompletedProcess[str]:
        """What a refresh finds changed behind the engine's back ends it with an error."""
        command = [
            "pulumi",
            "refresh",
            "--yes",
            "--non-interactive",
            "--expect-no-changes",
            "--diff",
            "-s",
            CLUSTER_APPS,
        ]
        environment = {**os.environ, **self.engine.environment}
        return subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Standing]:
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        pytest.skip(f"needs pulumi: {', '.join(absent)} not on the path")
    plane: Plane = request.getfixturevalue("plane")
    built: Built = request.getfixturevalue("built")
    folder = tmp_path_factory.mktemp("engine")
    rendered = cluster_apps(folder / "stacks", PhaseName.SMALL)
    _machines(plane.api)
    define(plane, built.definitions, rendered.objects)
    project = _copy(folder / "project")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in _alone(folder, plane).items():
            environment.setenv(name, value)
        yield Standing(project, AutomationEngine(project), plane.api, rendered, [])


def _machines(api: Kubernetes) -> None:
    prices = load_prices()
    of = room(prices.instance(NODE), prices.assumptions.node_overhead, ())
    for zone in REGIONS["eu-central-1"].zones:
        for number in range(NODES_A_ZONE):
            name = f"{zone}-{number}"
            simulate(api, name, {ZONE: zone, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}, (), of)


def _copy(project: Path) -> Path:
    """The engine writes into the stack's file: not into the repository's."""
    project.mkdir()
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, project / name)
    for name in INSTALLED:
        (project / name).symlink_to(ROOT / name)
    return project


def _alone(folder: Path, plane: Plane) -> Mapping[str, str]:
    """State in a folder, nothing from the user's own Pulumi, and nothing asked of the internet."""
    state = folder / "state"
    state.mkdir()
    return {
        "KUBECONFIG": str(plane.kubeconfig),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "of a test",
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def _image(api: Kubernetes) -> str:
    deployment = api.get(API)
    assert deployment is not None
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.timeout(LIMIT_S)
def test_a_preview_wants_what_the_plan_without_an_engine_shows(standing: Standing) -> None:
    # The engine counts the stack itself, which the plan does not show.
    assert standing.preview() == {"create": len(standing.rendered.graph.resources) + 1}
    assert standing.api.get("/api/v1/namespaces/trellis") is None, "a preview makes nothing"


@pytest.mark.timeout(LIMIT_S)
def test_it_is_made_and_every_pod_runs_and_nothing_is_left_to_change(standing: Standing) -> None:
    standing.up()
    until_ready(standing.api, "the small phase")
    for manifest in standing.rendered.objects:
        assert standing.api.get(standing.api.path(manifest)) is not None, manifest["metadata"]["name"]
    assert set(standing.preview()) == {"same"}


@pytest.mark.timeout(LIMIT_S)
def test_what_the_autoscaler_changes_is_no_drift_and_a_new_image_leaves_it(standing: Standing) -> None:
    most = PHASES[PhaseName.SMALL].fleet.most
    standing.api.scale(API, most)
    until_ready(standing.api, "as many pods as the autoscaler may make")
    refreshed = standing.refreshed()
    assert refreshed.returncode == 0, refreshed.stdout[-3000:] + refreshed.stderr[-1000:]
    standing.configure(image=OTHER_IMAGE)
    standing.up()
    until_ready(standing.api, "the other image runs")
    assert _image(standing.api) == OTHER_IMAGE
    deployment = standing.api.get(API)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == most
    assert set(standing.preview()) == {"same"}


@pytest.mark.timeout(LIMIT_S)
def test_it_is_taken_down_and_nothing_of_it_is_left(standing: Standing) -> None:
    standing.engine.destroy(CLUSTER_APPS, standing.told.append)
    assert standing.engine.standing() == []
    left = [
        manifest["metadata"]["name"]
        for manifest in standing.rendered.objects
        if standing.api.get(standing.api.path(manifest)) is not None
    ]
    assert left == []
