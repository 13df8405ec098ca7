"""What pages name exists: commands, targets, settings, resources of the plan, metrics, panels and links."""

import re
from functools import cache

import pytest

from alerts.generate import RULES
from app.settings import PREFIX, Settings
from runbooks.pages import Language
from tests.support import promql
from tests.support.page_commands import problems
from tests.support.runbooks import FILES, RUNBOOKS, calls, commands, named_panels, pages, panels, texts

_GLOBAL = frozenset(
    re.findall(r"alert: (\w+)", "".join(path.read_text() for path in sorted(RULES.glob("*-global/*.yaml"))))
)
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
# A name that goes on with a star stands for several.
_SETTING = re.compile(rf"\b{PREFIX}[A-Z_]*[A-Z]\b(?!_)")
_TOOLING = {"TRELLIS_DATA", "TRELLIS_KEY"}


@cache
def known(above: bool) -> dict[str, promql.Metric]:
    found = dict(promql.known())
    return dict(promql.federated(found)) if above else found


def query_problems(name: str, query: str) -> tuple[str, ...]:
    """Of an alert's page by the Prometheus that raises it; a procedure may go to the one above the regions too."""
    if name.startswith("alerts/"):
        return promql.problems(query, known(name.removeprefix("alerts/") in _GLOBAL))
    return promql.problems(query, known(above=False)) and promql.problems(query, known(above=True))


@pytest.mark.parametrize("name", FILES)
def test_every_query_parses_and_asks_for_what_exists(name: str) -> None:
    queries = [block.body for block in pages()[name].blocks if block.language is Language.PROMQL]
    assert [(query, found) for query in queries if (found := query_problems(name, query))] == []


@pytest.mark.parametrize("name", FILES)
def test_every_command_names_what_is_there(name: str) -> None:
    assert problems(list(commands(name))) == []


@pytest.mark.parametrize("name", [*FILES, "README"])
def test_settings_and_links_exist(name: str) -> None:
    path = FILES.get(name, RUNBOOKS / "README.md")
    text = path.read_text()
    settings = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields} | _TOOLING
    assert set(_SETTING.findall(text)) - settings == set()
    links = [link for link in _LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("name", FILES)
def test_panels_that_are_named_are_on_their_board(name: str) -> None:
    named = list(named_panels(texts()[name]))
    assert [(board, title) for board, title in named if title not in panels().get(board, frozenset())] == []


def test_the_readme_names_commands_that_are_there() -> None:
    text = (RUNBOOKS / "README.md").read_text()
    shown = [words for code in re.findall(r"`([^`\n]+)`", text) for words in calls(code)]
    blocks = [words for body in re.findall(r"```\w*\n([\s\S]*?)```", text) for words in calls(body)]
    assert problems([words for words in (*shown, *blocks) if len(words) > 1]) == []


@pytest.mark.parametrize(
    "command",
    [
        "kubectl -n trellis scale deploy/gateway --replicas=2",
        "kubectl -n trellis-data delete pod pgbouncer-0",
        "kubectl -n trellis-cache get pods",
        "kubectl -n trellis get gadgets",
        "kubectl -n trellis get pods -l app.kubernetes.io/name=api",
        "kubectl -n trellis logs deploy/worker -c sidecar",
        "kubectl -n keda logs deploy/keda",
        "kubectl edit nodepool default",
        "for r in $REGIONS; do kubectl --context $r -n trellis patch hpa api --type merge -p '{}'; done",
        'echo "$(kubectl -n trellis get svc gateway)"',
        "kubectl -n trellis-data create job now --from=cronjob/snapshots",
        "aws rds describe-db-instances --db-instance-identifier trellis-$PHASE-reader-1",
        "aws rds describe-databases",
        "aws rds describe-db-instances --identifier x",
        "aws elasticashe test-failover",
        "aws s3 ls s3://trellis-$PHASE-snapshots-$ACCOUNT-$REGION/ 2>/dev/null",
        "make deploy STAGE=small",
        "make undeploy",
        "kubectl -n trellis exec deploy/worker -- trellis knowledge index undo",
        "trellis flags set kill.everything true",
        "trellis flags set kill.all maybe",
        "trellis flags set kill.all true --everywhere",
    ],
)
def test_a_wrong_name_is_found(command: str) -> None:
    assert problems(list(calls(command)))


@pytest.mark.parametrize(
    "command",
    [
        "kubectl -n trellis rollout restart deploy/api-green deploy/worker",
        "kubectl -n trellis-data logs qdrant-0 --tail=40 | grep -c x",
        'kubectl -n "$NAMESPACE" delete pod "$POD" && kubectl -n trellis get service api -o jsonpath=\'{.spec}\'',
        "kubectl -n trellis set env deploy/worker TRELLIS_TRACE_SAMPLE-",
        "aws rds promote-read-replica --db-instance-identifier trellis-$PHASE-replica-0",
        "aws s3 ls s3://trellis-poc-backups-$ACCOUNT-$REGION/",
        "make deploy PHASE=small REGION=eu-central-1 YES=1",
        "trellis migrate --down",
    ],
)
def test_a_right_one_is_not(command: str) -> None:
    assert problems(list(calls(command))) == []


def test_a_panel_is_found_before_and_behind_its_board() -> None:
    assert list(named_panels("`trellis-slo`: *Pages firing*, *Other*.")) == [
        ("trellis-slo", "Pages firing"),
        ("trellis-slo", "Other"),
    ]
    assert list(named_panels("see *A* on `trellis-api`")) == [("trellis-api", "A")]
