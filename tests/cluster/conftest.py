"""The control plane's program and what the stacks render, made once; a plane for each file that wants one."""

import fcntl
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

import pytest

from infra.phases import PhaseName
from tests.cluster.rendered import OTHER_IMAGE, Rendered, cluster_apps, every_stack
from tests.support.plane import Plane, program, running_plane
from tests.support.plane_build import Built

TIMEOUT_S: Final = 2400
"""Of the first test: it may have to build the plane."""
Made = TypeVar("Made")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def built() -> Built:
    return program()


@pytest.fixture(scope="session")
def stacks(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Rendered]:
    """Every stack with anything in Kubernetes, by name."""
    return _once(tmp_path_factory, "stacks", every_stack)


@pytest.fixture(scope="session")
def in_two_colours(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """The medium phase's workloads on a cluster that is there, while a release is tried."""
    folder = tmp_path_factory.mktemp("stacks")
    return _once(tmp_path_factory, "colours", lambda: cluster_apps(folder, PhaseName.MEDIUM, otherImage=OTHER_IMAGE))


@pytest.fixture(scope="module")
def plane(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running_plane(built, tmp_path_factory.mktemp("plane")) as running:
        yield running


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Made]) -> Made:
    """Made by the first of xdist's workers that wants it, read by the others."""
    # A worker's folder is below the run's; without workers it is the run's own.
    own = factory.getbasetemp()
    file = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"{name}.pickle"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            file.write_bytes(pickle.dumps(make()))
        found: Made = pickle.loads(file.read_bytes())
    return found
