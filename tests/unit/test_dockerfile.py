"""The image's rules, read from its Dockerfile and from what a build gets to see."""

import re
import subprocess
import tomllib

import pytest
import typer

from app.cli import cli
from app.settings import PREFIX, Settings
from tests.support.dockerfile import sent, sources_of, stages
from tests.support.server import ROOT

ARGUMENTS, (BUILD, IMAGE) = stages((ROOT / "app/Dockerfile").read_text())
RULES = (ROOT / ".dockerignore").read_text()
COMMANDS = {"api", "worker", "migrate", "mcp"}
SECRET = re.compile("(?i)secret|password|token|_key|private")


def test_both_stages_begin_with_one_base_that_is_named_by_its_digest() -> None:
    assert BUILD.base == IMAGE.base
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", BUILD.base)


def test_the_process_is_not_root_and_kubernetes_can_see_it() -> None:
    user, group = IMAGE.all("USER")[-1].rest.split(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    names = [step.name for step in IMAGE.instructions]
    assert "RUN" not in names[names.index("USER") :]


def test_everything_that_is_copied_exists_and_is_sent() -> None:
    copies = [step for step in BUILD.all("COPY") if step.option("from") is None]
    sources = [source for step in copies for source in step.words[:-1]]
    assert {"pyproject.toml", "uv.lock", "app", "infra"} <= set(sources)
    assert all(sources_of(ROOT, source) for source in sources)
    assert not BUILD.all("ADD") + IMAGE.all("ADD")
    assert [step.option("from") for step in IMAGE.all("COPY")] == [BUILD.name]


def test_every_file_of_the_program_is_sent() -> None:
    tracked = subprocess.run(["git", "ls-files", "app"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(tracked.split()) <= set(sources_of(ROOT, "app"))
    assert sent("infra/phases.py", RULES)
    assert sent("runbooks/pages.py", RULES)
    assert sent("runbooks/alerts/PostgresDown.md", RULES)


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".tools/bin/uv",
        ".trellis/trellis.db",
        "app/.trellis/local.key",
        "app/packs/__pycache__/pack.cpython-311.pyc",
        "tests/conftest.py",
        "docs/settings.md",
        "data/leads.csv",
        ".env",
        "app/.env.production",
        "infra/stacks/Pulumi.small.yaml",
        "dist/sbom.cdx.json",
        "runbooks/drill/run.py",
    ],
)
def test_what_the_image_does_not_need_is_never_sent(path: str) -> None:
    assert not sent(path, RULES)


def test_its_commands_are_the_programs_own_and_the_process_itself_hears_signals() -> None:
    known = set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]
    (entry,), (command,), (health,) = IMAGE.all("ENTRYPOINT"), IMAGE.all("CMD"), IMAGE.all("HEALTHCHECK")
    assert known >= COMMANDS
    # In brackets: no shell between the container's first process and us.
    assert (entry.words, command.words) == (["trellis"], ["api"])
    assert re.search(r'CMD \["trellis", "health"\]$', health.rest)
    assert {"api", "health"} <= known
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"trellis": "app.entry:main"}
    assert IMAGE.all("STOPSIGNAL")[0].rest == "SIGTERM"


def test_what_it_sets_are_settings_and_no_secrets() -> None:
    names = [word.split("=")[0] for step in IMAGE.all("ENV") for word in step.words]
    given = {name.removeprefix(PREFIX).lower() for name in names if name.startswith(PREFIX)}
    assert given <= set(Settings.model_fields)
    arguments = [step.rest.split("=")[0] for stage in (BUILD, IMAGE) for step in stage.all("ARG")]
    assert not list(filter(SECRET.search, [*names, *arguments, *ARGUMENTS]))


def test_what_is_installed_is_what_is_locked_by_the_makefiles_uv() -> None:
    wanted = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    uv = (ROOT / "app/uv.txt").read_text()
    assert wanted is not None
    assert f"uv=={wanted[1]} " in uv
    assert len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}", uv))) >= 2
    syncs = [step.rest for step in BUILD.all("RUN") if "uv sync" in step.rest]
    assert syncs
    for sync in syncs:
        assert "--locked --no-default-groups --group app" in sync
        assert "dev" not in sync
    assert "--require-hashes" in " ".join(step.rest for step in BUILD.all("RUN") if "pip install" in step.rest)


def test_a_rule_of_dockerignore_holds_below_a_folder_and_a_star_stays_in_one() -> None:
    rules = "*\n!app\n!infra/*.py\n**/__pycache__"
    assert sent("app/deep/file.py", rules)
    assert sent("infra/phases.py", rules)
    assert not sent("infra/aws/phases.py", rules)
    assert not sent("app/deep/__pycache__/file.pyc", rules)
    assert not sent("README.md", rules)
