"""Reads settings: of this process, or of another one from its file."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsError

from app.errors import ConfigError
from app.settings.model import Settings
from app.settings.values import PREFIX

# Read by the test suite, by make and by options of commands, never as a setting.
TOOLING = frozenset(
    {
        "TRELLIS_DATA",
        "TRELLIS_KEY",
        "TRELLIS_REQUIRE_ALL",
        "TRELLIS_NO_SERVERS",
        "TRELLIS_BENCH_FIGURES",
        "TRELLIS_HYPOTHESIS",
    }
)


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from this process's environment, `overrides` first; unknown names are looked for in `environ`.

    Raises:
        ConfigError: naming each wrong setting, or an unknown `TRELLIS_*` variable and the nearest known one.
    """
    _refuse_unknown(os.environ if environ is None else environ)
    return _made(Settings, overrides)


def load_settings_file(path: Path, **overrides: Any) -> Settings:
    """Settings of another process, from a file of `TRELLIS_*` lines alone: nothing of this process's environment.

    Raises ConfigError as `load_settings` does, and for a file that cannot be read; it repeats no value of the file.
    """
    try:
        lines = dotenv_values(path, interpolate=False, encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError):
        lines = None
    if lines is None:
        raise ConfigError(f"The file {path} cannot be read: name a file of TRELLIS_* lines.")
    foreign = next((name for name in lines if not (name.isidentifier() and name.upper().startswith(PREFIX))), None)
    if foreign is not None:
        # A line without '=' may be an address with its password.
        shown = f" {foreign[:60]}" if foreign.isidentifier() else ", which is no setting"
        raise ConfigError(f"{path} has a line{shown}: it may hold {PREFIX}* lines only.")
    _refuse_unknown(lines)
    return _made(_of_lines(lines), overrides)


def _of_lines(lines: Mapping[str, str | None]) -> type[Settings]:
    class OfLines(Settings):
        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_environment: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            source = EnvSettingsSource(settings_cls)
            source.env_vars = {name.lower(): value for name, value in lines.items()}
            return init_settings, source

    return OfLines


def _made(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    try:
        return kind(**given)
    except SettingsError as error:
        raise ConfigError(f"{str(error)[:1].upper()}{str(error)[1:]}: it takes JSON.") from None
    except ValidationError as error:
        raise ConfigError(" ".join(_sentence(item) for item in error.errors())) from None


def _refuse_unknown(environ: Iterable[str]) -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | TOOLING
    for name in environ:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f": did you mean {near[0]}?" if near else ": remove it."
            raise ConfigError(f"{name} is not a setting of Trellis{hint}")


def _sentence(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return f"{message}."
    return f"{PREFIX}{str(item['loc'][0]).upper()} is not valid: {message}."
