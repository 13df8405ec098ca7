"""What the PoC's machine is told at its first start, and the files that lie on it."""

import configparser
import importlib.util
import json
import re
import shlex
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from app.settings import PREFIX, Settings, load_settings
from infra.errors import InfraError
from infra.instance.userdata import FILES, HOME, LIMIT, PLACES, Machine, app_settings, user_data
from infra.phases import PHASES, PhaseName
from infra.scrapes import scrapes
from infra.settings import NAMESPACE, Single, read

MACHINE = Machine(
    domain="agents.example.com",
    email="ops@example.com",
    region="eu-central-1",
    release="v1.0.0",
    repository="https://git.example.com/trellis.git",
    volume="vol-0123456789abcdef0",
    bucket="trellis-poc-backups-111111111111-eu-central-1",
    secret="trellis-poc/settings",
)


def written(machine: Machine = MACHINE) -> dict[str, str]:
    """By path on the machine: what cloud-init writes there."""
    return {file["path"]: file["content"] for file in yaml.safe_load(user_data(machine))["write_files"]}


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FILES / name)
    return parser


def units() -> list[str]:
    return [name for name in PLACES if name.endswith(".service")]


def test_every_file_lies_on_the_machine_as_it_lies_here() -> None:
    found = written()
    assert {path.name for path in FILES.iterdir() if path.is_file()} == set(PLACES)
    for name, place in PLACES.items():
        assert found[place] == (FILES / name).read_text()


def test_the_same_machine_is_told_the_same_and_it_fits() -> None:
    text = user_data(MACHINE)
    assert text == user_data(MACHINE)
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) < LIMIT * 0.9
    assert user_data(replace(MACHINE, release="v1.0.1")) != text


def test_more_than_ec2_takes_is_refused() -> None:
    with pytest.raises(InfraError, match="EC2 16384"):
        user_data(replace(MACHINE, bucket="b" * LIMIT))


def test_the_apps_settings_are_settings_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**app_settings(MACHINE), "TRELLIS_SESSION_SECRET": "x" * 32}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert set(given) <= {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert str(settings.home) == HOME
    assert settings.port == 8321


def test_the_app_runs_as_one_process_with_its_worker_after_its_migrations() -> None:
    service = unit("trellis.service")["Service"]
    assert service["ExecStart"].endswith("/trellis serve")
    assert service["ExecStartPre"].endswith("/trellis migrate")
    assert f"ReadWritePaths={HOME}" in (FILES / "trellis.service").read_text()


def test_nothing_writes_before_the_database_is_brought_back() -> None:
    for name in ("litestream.service", "trellis.service"):
        section = unit(name)["Unit"]
        assert "trellis-restore.service" in section["Requires"].split()
        assert "trellis-restore.service" in section["After"].split()
    restore = (FILES / "trellis-restore.service").read_text()
    assert "-if-db-not-exists" in restore
    assert "-if-replica-exists" in restore


def test_the_app_ends_before_what_streams_its_database() -> None:
    # systemd stops in the opposite order of `After`.
    assert "litestream.service" in unit("trellis.service")["Unit"]["After"].split()


def test_litestream_keeps_a_week_and_is_asked_where_prometheus_asks() -> None:
    told = yaml.safe_load((FILES / "litestream.yml").read_text())
    ports = {scrape.job: scrape.port for scrape in scrapes(PHASES[PhaseName.POC])}
    host, port = told["addr"].split(":")
    assert (host, int(port)) == ("127.0.0.1", ports.get("litestream", 9186))
    assert told["snapshot"]["retention"] == "168h"
    (database,) = told["dbs"]
    assert database["path"] == f"{HOME}/trellis.db"
    assert database["replica"]["path"].startswith("litestream/")


@pytest.mark.parametrize("name", ["litestream.yml", "Caddyfile", "install.sh"])
def test_every_variable_of_a_file_is_told_to_the_machine(name: str) -> None:
    told = {line.partition("=")[0] for line in written()["/etc/trellis/instance.env"].splitlines()}
    text = (FILES / name).read_text()
    wanted = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", text)) | set(re.findall(r"\{\$([A-Z]+)\}", text))
    assert wanted <= told
    assert wanted


def test_a_value_with_a_quote_in_it_is_no_command() -> None:
    line = next(
        line
        for line in written(replace(MACHINE, release="v1'; touch /tmp/x; '"))["/etc/trellis/instance.env"].splitlines()
        if line.startswith("RELEASE=")
    )
    assert shlex.split(line) == ["RELEASE=v1'; touch /tmp/x; '"]


def test_the_script_is_bash_that_can_be_read() -> None:
    subprocess.run(["bash", "-n", str(FILES / "install.sh")], check=True)


def test_whoever_faces_the_network_runs_as_nobody_in_particular_and_without_the_machines_rights() -> None:
    for name in ("trellis.service", "caddy.service"):
        service = unit(name)["Service"]
        assert service["User"] != "root"
        assert service["NoNewPrivileges"] == "yes"
        assert service["IPAddressDeny"] == "169.254.169.254"
        assert service["ProtectSystem"] == "strict"


@pytest.mark.parametrize("name", ["trellis.service", "caddy.service", "litestream.service"])
def test_what_ends_is_started_again_however_often(name: str) -> None:
    assert unit(name)["Service"]["Restart"] == "always"
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"


def test_every_unit_waits_for_the_data_volume_and_is_started_by_the_script() -> None:
    script = (FILES / "install.sh").read_text()
    for name in units():
        assert unit(name)["Unit"]["RequiresMountsFor"] == "/data"
        assert name in script.rpartition("systemctl enable --now")[2]


@pytest.fixture
def fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that brings settings, on folders of the test; `aws` is a program of the test's."""
    spec = importlib.util.spec_from_file_location("fetch_settings", FILES / "fetch_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "session.secret")
    monkeypatch.setattr(module, "TARGET", tmp_path / "run" / "settings.env")
    monkeypatch.setenv("SECRET", "trellis-poc/settings")
    monkeypatch.setenv("REGION", "eu-central-1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return module


def answer(folder: Path, text: str, *, code: int = 0, error: str = "") -> None:
    program = folder / "aws"
    program.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(text)}\nprintf %s {shlex.quote(error)} >&2\nexit {code}\n")
    program.chmod(0o755)


def test_settings_reach_the_app_as_they_are_in_the_secret(fetching: ModuleType, tmp_path: Path) -> None:
    key = 'a"b\\c$d`e f'
    answer(tmp_path, json.dumps({"TRELLIS_MODEL_KEY": key, "TRELLIS_SESSION_SECRET": "s" * 40}))
    fetching.main()
    # A shell reads the four escapes between double quotes as systemd does.
    shown = subprocess.run(
        ["bash", "-c", f'. {fetching.TARGET} && printf %s "$TRELLIS_MODEL_KEY"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == key
    assert stat.S_IMODE(fetching.TARGET.stat().st_mode) == 0o600


def test_without_a_value_the_app_gets_a_session_secret_that_stays(fetching: ModuleType, tmp_path: Path) -> None:
    answer(tmp_path, "", code=254, error="An error occurred (ResourceNotFoundException): can't find the value")
    fetching.main()
    first = fetching.TARGET.read_text()
    fetching.main()
    assert first == fetching.TARGET.read_text()
    assert re.fullmatch(r'TRELLIS_SESSION_SECRET="[\w-]{32,}"\n', first)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[]", 0, "has to be one JSON object"),
        ("no", 0, "has to be one JSON object"),
        ('{"PATH": "/tmp"}', 0, "'PATH' is no setting of the app"),
        ('{"TRELLIS_MODEL_KEY": "a\\nb"}', 0, "values are one line"),
        ("", 1, "cannot be read: denied"),
    ],
)
def test_a_wrong_secret_is_refused_in_a_sentence(
    fetching: ModuleType, tmp_path: Path, text: str, code: int, said: str
) -> None:
    answer(tmp_path, text, code=code, error="denied")
    with pytest.raises(SystemExit, match=said):
        fetching.main()
    assert not fetching.TARGET.exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("release", "-rf", "it has to be a tag or a commit"),
        ("repository", "https://me:secret@git.example.com/x.git", "without a password"),
    ],
)
def test_a_release_that_could_not_be_cloned_is_refused_before_anything_is_made(key: str, value: str, said: str) -> None:
    texts = {
        "account": "111111111111",
        "alarmEmail": "ops@example.com",
        "domain": "agents.example.com",
        "zone": "Z00000000000000000000",
        "release": "v1.0.0",
        "repository": "https://git.example.com/trellis.git",
        key: value,
    }
    with pytest.raises(InfraError, match=f"{NAMESPACE}:{key} .*{said}"):
        read(Single, {f"{NAMESPACE}:{name}": text for name, text in texts.items()})
