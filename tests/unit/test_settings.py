"""A wrong or unknown setting stops the start with a sentence that names it."""

import os
from typing import Any

import pytest

from app.errors import ConfigError
from app.settings import Settings, load_settings

SECRET = "x" * 32
POSTGRES = "postgresql+asyncpg://db/trellis"


def refusal(monkeypatch: pytest.MonkeyPatch, **environ: str) -> str:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    return refused.value.detail


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"TRELLIS_PORT": "http"}, "TRELLIS_PORT"),
        ({"TRELLIS_PORT": "70000"}, "TRELLIS_PORT"),
        ({"TRELLIS_PHASE": "huge"}, "TRELLIS_PHASE"),
        ({"TRELLIS_LOG_LEVEL": "LOUD"}, "TRELLIS_LOG_LEVEL"),
        ({"TRELLIS_MODEL_URL": "localhost:11434"}, "TRELLIS_MODEL_URL"),
        ({"TRELLIS_MODEL_URL": "http://localhost:11434/v1"}, "TRELLIS_MODEL_NAME"),
        ({"TRELLIS_MODEL_NAME": "llama"}, "TRELLIS_MODEL_URL"),
        ({"TRELLIS_MODEL_INPUT_USD_PER_MILLION": "1"}, "TRELLIS_MODEL_OUTPUT_USD_PER_MILLION"),
        ({"TRELLIS_MODEL_FALLBACK_URL": "http://localhost:8000/v1"}, "TRELLIS_MODEL_URL"),
        ({"TRELLIS_MODEL_FALLBACK_NAME": "llama"}, "TRELLIS_MODEL_FALLBACK_URL"),
        ({"TRELLIS_EMBEDDING_URL": "http://localhost:8000/v1"}, "TRELLIS_EMBEDDING_NAME"),
        ({"TRELLIS_EMBEDDING_NAME": "bge"}, "TRELLIS_EMBEDDING_URL"),
        ({"TRELLIS_CRM": "notebook"}, "TRELLIS_CRM"),
        ({"TRELLIS_CRM_FIELDS": "not json"}, "crm_fields"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], names: str) -> None:
    assert names in refusal(monkeypatch, **environ)


def test_an_unknown_setting_is_named_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        refusal(monkeypatch, TRELLIS_PROT="1") == "TRELLIS_PROT is not a setting of Trellis: did you mean TRELLIS_PORT?"
    )


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, TRELLIS_PORT="x", TRELLIS_PHASE="y")
    assert "TRELLIS_PORT" in said
    assert "TRELLIS_PHASE" in said


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({}, "TRELLIS_SESSION_SECRET"),
        ({"session_secret": "short"}, "TRELLIS_SESSION_SECRET"),
        ({"session_secret": SECRET, "auth": False}, "TRELLIS_AUTH"),
        ({"session_secret": SECRET, "phase": "small"}, "TRELLIS_DATABASE_URL"),
        ({"session_secret": SECRET, "phase": "small", "database_url": POSTGRES}, "TRELLIS_VECTORS_URL"),
    ],
)
def test_production_refuses_what_development_allows(wrong: dict[str, Any], names: str) -> None:
    load_settings({}, **{**wrong, "environment": "development"})
    with pytest.raises(ConfigError) as refused:
        load_settings({}, environment="production", **wrong)
    assert names in refused.value.detail


def test_production_starts_with_secrets_a_database_and_a_vector_server() -> None:
    servers = {"database_url": POSTGRES, "vectors_url": "http://vectors:6333"}
    settings = load_settings({}, environment="production", session_secret=SECRET, phase="small", **servers)
    assert settings.sqlalchemy_url == POSTGRES


def test_secrets_are_not_printed() -> None:
    settings = load_settings({}, model_url="https://models.example/v1", model_key="sk-very-secret")
    assert "sk-very-secret" not in repr(settings)
    assert "sk-very-secret" not in str(settings.model_dump())


def test_the_targets_are_the_phase_declaration() -> None:
    assert load_settings({}, phase="medium").targets.targets.answer_p99_s == 2.0


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert load_settings({}, host="::1", port=80).address == "http://[::1]:80"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_no_proxy_is_trusted_by_default() -> None:
    assert load_settings({}).trusted_proxies == ""


def test_a_worker_on_a_server_has_a_name_that_no_other_has_and_the_embedded_one_the_same_at_each_start() -> None:
    assert load_settings({}).worker_id == "embedded"
    named = load_settings({}, database_url=POSTGRES).worker_id
    assert named.endswith(f"-{os.getpid()}")
    assert load_settings({}, database_url=POSTGRES, executor_id="pod-7").worker_id == "pod-7"


def test_a_write_that_more_copies_must_have_than_there_are_is_refused() -> None:
    servers: dict[str, Any] = {"vectors_url": "http://vectors:6333", "vectors_replicas": 2}
    assert load_settings({}, **servers, vectors_write_replicas=2).vectors_write_replicas == 2
    with pytest.raises(ConfigError, match="TRELLIS_VECTORS_WRITE_REPLICAS is 3, but an index has 2"):
        load_settings({}, **servers, vectors_write_replicas=3)
    with pytest.raises(ConfigError, match="TRELLIS_VECTORS_GRPC_PORT needs TRELLIS_VECTORS_URL"):
        load_settings({}, vectors_grpc_port=6334)
