"""Tools from an installed distribution: loaded at the start, refused until a tenant allows them."""

import sys
from pathlib import Path

import pytest

from app.agent.models import ToolMode
from app.agent.tools import ToolCallPlan
from app.errors import ConfigError
from app.principal import Principal, Role
from tests.support.service import TENANT, running

PLUGIN = """
from pydantic import BaseModel

from app.agent.tools import Effect, Tool


class Args(BaseModel):
    place: str


def tools(ports):
    async def run(context, args):
        return {"place": args.place, "tenant": context.principal.tenant_id, "at": ports.clock().isoformat()}

    return (Tool("opening_hours", "Opening hours of a branch.", Args, run, Effect.READ),)


def clashing(ports):
    return [Tool("knowledge_search", "Another one.", Args, None, Effect.READ)]


def broken(ports):
    raise RuntimeError("no address is set")


def wrong(ports):
    return ["opening_hours"]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """A distribution `branches` in `folder`, which is put on the path; `points` maps entry points to functions."""
    (folder / "branch_tools.py").write_text(PLUGIN)
    info = folder / "branches-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: branches\nVersion: 1.0\n")
    lines = [f"{name} = branch_tools:{function}" for name, function in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[trellis.tools]", *lines, ""]))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "branch_tools", raising=False)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    return folder


async def test_a_plug_in_may_be_used_once_the_tenant_allows_it(tmp_path, plugins, monkeypatch):
    install(plugins, monkeypatch, branches="tools")
    async with running(tmp_path / "home", knowledge=False) as service:
        container = service.container
        assert container.kit.plugins == ("opening_hours",)
        admin = Principal(TENANT, "test", Role.ADMIN)
        plan = ToolCallPlan("opening_hours", {"place": "Groningen"}, "k1")
        (refused,) = await container.kit.executor.execute(admin, "s", [plan])
        assert (refused.state, refused.error) == (
            "denied",
            "The tool 'opening_hours' is not on the tenant's allow list.",
        )
        async with container.db.operator_transaction() as session:
            await container.tool_policies.set(session, admin, "opening_hours", ToolMode.ALLOW)
        (done,) = await container.kit.executor.execute(admin, "s", [plan])
        assert done.result["place"] == "Groningen"
        assert done.result["tenant"] == TENANT


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ({"branches": "broken"}, r"'branches' \(branches\) does not load \(RuntimeError: no address is set\)"),
        ({"branches": "missing"}, r"'branches' \(branches\) does not load \(AttributeError: "),
        ({"branches": "wrong"}, r"'branches' \(branches\) gave a str for a tool"),
        ({"branches": "clashing"}, r"has a tool 'knowledge_search', as Trellis has"),
        (
            {"a": "tools", "b": "tools"},
            r"'b' \(branches\) has a tool 'opening_hours', as the plug-in 'a' \(branches\) has",
        ),
    ],
)
async def test_a_plug_in_that_is_wrong_stops_the_start_by_its_name(tmp_path, plugins, monkeypatch, points, sentence):
    install(plugins, monkeypatch, **points)
    with pytest.raises(ConfigError, match=sentence):
        async with running(tmp_path / "home", knowledge=False):
            pytest.fail("it started")
