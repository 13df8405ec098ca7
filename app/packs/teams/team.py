"""Teams as data: who is in one, what each member knows and may look up, what a question may use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import ConfigError, NotFound
from app.packs.teams.limits import Limits

PACK: Final = "teams"
FILE: Final = Path(__file__).with_name("teams.yaml")
_NAME: Final = r"^[a-z][a-z0-9_]{0,39}$"


class MemberSpec(BaseModel):
    """One member. `knows` is what the planner is told of it; `tools` are names in the registry, of tools that read.

    `max_steps` counts model calls, `max_tokens` bounds each answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    title: str = Field(min_length=1, max_length=60)
    knows: str = Field(min_length=1, max_length=400)
    prompt: str = Field(pattern=_NAME)
    tools: tuple[str, ...] = Field(min_length=1)
    max_steps: int = Field(5, ge=2, le=10)
    max_tokens: int = Field(700, ge=100, le=4_000)


class TeamSpec(BaseModel):
    """One team. `planner` and `joiner` are prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    title: str = Field(min_length=1, max_length=60)
    answers: str = Field(min_length=1, max_length=400)
    planner: str = Field("teams_plan", pattern=_NAME)
    joiner: str = Field("teams_join", pattern=_NAME)
    limits: Limits = Limits()
    members: tuple[MemberSpec, ...] = Field(min_length=1, max_length=12)

    @model_validator(mode="after")
    def _one_of_each(self) -> "TeamSpec":
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"the team '{self.name}' has two members of one name")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    teams: list[TeamSpec] = Field(min_length=1)


class Teams:
    """Every team, by name."""

    def __init__(self, teams: Mapping[str, TeamSpec]) -> None:
        self._teams = dict(teams)

    @classmethod
    def load(cls, file: Path = FILE) -> "Teams":
        """Raises ConfigError naming what is wrong with the file."""
        try:
            found = _File.model_validate(yaml.safe_load(file.read_text("utf-8"))).teams
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"The file of teams {file.name} cannot be read: {error}.") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ConfigError(f"The file of teams {file.name} is wrong at {where}: {first['msg']}.") from None
        teams = {team.name: team for team in found}
        if len(teams) < len(found):
            raise ConfigError(f"The file of teams {file.name} has two teams of one name: rename one.")
        return cls(teams)

    def get(self, name: str) -> TeamSpec:
        """Raises NotFound naming those that there are."""
        team = self._teams.get(name)
        if team is None:
            raise NotFound(f"There is no team '{name[:60]}': ask one of {', '.join(self._teams)}.")
        return team

    def all(self) -> tuple[TeamSpec, ...]:
        return tuple(self._teams.values())
