"""The image without Docker: its first stage's own steps in a temporary folder, and the process as somebody who may
write to nothing but its data folder and the temporary one."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.probe import ask
from app.settings import Settings, load_settings
from tests.support.dockerfile import Build, stages
from tests.support.server import ROOT, free_port

START_S, END_S = 90.0, 30.0
LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
LARGEST_MB = 620
"""Of the whole environment; bytecode comes on top. What makes it larger is worth a look."""
# A link does for a copy, and what is imported is compiled when it is, into the folder that stands for /tmp.
# The packages are those that a former installation downloaded.
QUICK = {"UV_OFFLINE": "1", "UV_LINK_MODE": "hardlink", "UV_COMPILE_BYTECODE": "0"}


def python_for_all(root: Path) -> str:
    """This Python; a copy of it below `root` where it lies in a folder of this user alone."""
    here = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in here.parents):
        return str(here)
    copy = root / "python"
    left_out = shutil.ignore_patterns("test", "tests", "site-packages", "__pycache__", "config-*", "idlelib", "tkinter")
    shutil.copytree(Path(sys.base_prefix, LIBRARY), copy / LIBRARY, ignore=left_out)
    (copy / "bin").mkdir()
    for shared in Path(sys.base_prefix, "lib").glob("libpython*"):
        shutil.copy(shared, copy / "lib")
    return str(shutil.copy(here, copy / "bin/python3"))


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The folder that stands for `/`: the environment as the image has it, below `app`."""
    # What is installed is for another user to run, whatever a command that ran in this process left files to be.
    os.umask(0o022)
    root = Path(tempfile.mkdtemp(prefix="trellis-image-"))
    root.chmod(0o755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    _, (stage, _) = stages((ROOT / "app/Dockerfile").read_text())
    try:
        Build(ROOT, root, ROOT / ".tools/bin", QUICK | {"UV_PYTHON": python_for_all(root)}).run(stage)
        yield root
    finally:
        shutil.rmtree(root)


def as_nobody() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@dataclass
class Container:
    """What Docker would set: the image's environment, a data folder of the user's own, another port."""

    root: Path
    home: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        _, (_, stage) = stages((ROOT / "app/Dockerfile").read_text())
        given = dict(word.split("=", 1) for step in stage.all("ENV") for word in step.rest.split())
        given["PATH"] = given["PATH"].replace("/app/", f"{self.root}/app/").replace("$PATH", "/usr/bin:/bin")
        del given["PYTHONDONTWRITEBYTECODE"]
        own = {"TRELLIS_SESSION_SECRET": "x" * 32, "TRELLIS_HOME": str(self.home), "TRELLIS_PORT": str(self.port)}
        return given | own | here(self.root)

    def start(self, *command: str, **how: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [self.root / "app/.venv/bin/trellis", *command],
            cwd=self.root / "app",
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **as_nobody(),
            **how,
        )

    def run(self, *command: str) -> tuple[int, str]:
        process = self.start(*command)
        said, _ = process.communicate(timeout=START_S)
        return process.returncode, said


@pytest.fixture
def container(image: Path) -> Iterator[Container]:
    home = Path(tempfile.mkdtemp(prefix="trellis-home-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
    yield Container(image, home, free_port())
    shutil.rmtree(home)


def here(root: Path) -> dict[str, str]:
    """What stands for /tmp; and the copied Python's own library, in place of the machine's."""
    temporary = f"{root}/tmp"
    return {
        "TMPDIR": temporary,
        "PYTHONPYCACHEPREFIX": f"{temporary}/bytecode",
        "LD_LIBRARY_PATH": f"{root}/python/lib",
    }


def files(root: Path) -> dict[str, float]:
    """All but the temporary folder."""
    return {str(path): path.lstat().st_mtime for path in (root / "app").rglob("*")}


@pytest.mark.timeout(280)
def test_the_installed_program_serves_as_nobody_with_a_root_that_cannot_be_written_and_ends_by_sigterm(
    container: Container,
) -> None:
    before = files(container.root)
    assert container.run("health")[0] == 1  # nothing runs
    status, said = container.run("migrate")
    assert (status, "The database has schema" in said) == (0, True), said
    status, said = container.run("oncall", "PostgresDown")
    assert (status, "[mutate]" in said, "No kill switch is on." in said) == (0, True, True), said
    server = container.start("serve")
    try:
        wait_ready(server, load_settings({}, port=container.port))
        assert container.run("health", "--ready") == (0, "Ready.\n")
        server.terminate()
        said, _ = server.communicate(timeout=END_S)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, said
    assert "Traceback" not in said
    assert files(container.root) == before
    assert (container.home / "trellis.db").exists()


def wait_ready(server: "subprocess.Popen[str]", settings: Settings) -> None:
    deadline = time.monotonic() + START_S
    while not ask(settings, "/readyz")[0]:
        assert server.poll() is None, server.communicate()[0]
        assert time.monotonic() < deadline, "the server is not ready in time"
        time.sleep(0.1)


def test_what_was_left_out_is_needed_by_nothing_that_runs(image: Path) -> None:
    imports = (
        "import app.mcp.bridge, app.knowledge.qdrant, app.messages.kafka, pyarrow.parquet, numpy.testing, "
        "scipy.optimize, sklearn.linear_model; import pyarrow as a, io; "
        "pyarrow.parquet.write_table(a.table({'n': [1]}), io.BytesIO())"
    )
    found = subprocess.run(
        [image / "app/.venv/bin/python", "-c", imports],
        cwd="/",
        env=here(image),
        capture_output=True,
        text=True,
        **as_nobody(),
    )
    assert found.returncode == 0, found.stderr


def test_nothing_of_the_tools_of_development_is_installed_and_the_whole_stays_small(image: Path) -> None:
    packages = image / "app/.venv" / LIBRARY / "site-packages"
    assert (packages / "app").is_dir()  # copied, not linked to sources that are not there at work
    assert (packages / "runbooks/alerts/PostgresDown.md").is_file()
    assert not (packages / "runbooks/drill").exists()
    assert not [name for name in ("pytest", "mypy", "ruff", "hypothesis", "pulumi") if (packages / name).exists()]
    megabytes = sum(path.lstat().st_size for path in packages.rglob("*")) / 1e6
    assert 200 < megabytes < LARGEST_MB
