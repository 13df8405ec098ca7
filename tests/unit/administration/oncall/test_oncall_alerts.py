"""What others send as an alert is read, sorted, and made harmless."""

from typing import Any

import orjson
import pytest

from app.administration.oncall.alerts import MOST_ALERTS, by_name, read_alerts, shown
from app.errors import InvalidInput


def alert(name: str, severity: str = "ticket", **more: Any) -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": severity, **more.pop("labels", {})}, **more}


def webhook(*alerts: dict[str, Any], version: str = "4") -> bytes:
    return orjson.dumps({"version": version, "status": "firing", "alerts": alerts, "groupLabels": {}})


def test_what_fires_and_pages_comes_first() -> None:
    over = alert("C", "page", status="resolved")
    found = read_alerts(webhook(over, alert("A"), alert("B", "page"), alert("D", "")))
    assert [one.name for one in found] == ["B", "A", "D", "C"]
    assert [one.resolved for one in found] == [False, False, False, True]


def test_one_alert_and_a_list_of_alertmanagers_api_are_read_as_well() -> None:
    one = alert("A", startsAt="2026-11-22T01:00:00.5Z", status={"state": "active"})
    assert read_alerts(orjson.dumps(one)) == read_alerts(orjson.dumps([one]))
    (found,) = read_alerts(orjson.dumps(one))
    assert found.since is not None
    assert (found.since.isoformat(), found.resolved) == ("2026-11-22T01:00:00.500000+00:00", False)


def test_alerts_of_one_name_are_one() -> None:
    found = by_name(read_alerts(webhook(alert("A", labels={"pod": "x"}), alert("B"), alert("A", labels={"pod": "y"}))))
    assert {name: [one.labels.get("pod") for one in alerts] for name, alerts in found.items()} == {
        "A": ["x", "y"],
        "B": [None],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"KubePodPending", "no JSON"),
        (b"[]", "no alert in it"),
        (b"7", '"labels"'),
        (b'{"labels": {"severity": "page"}}', "alertname"),
        (webhook(version="3"), "version '3'"),
        (webhook(*[alert("A")] * (MOST_ALERTS + 1)), str(MOST_ALERTS)),
        (b" " * 5_000_001, "5 MB"),
    ],
)
def test_what_is_no_alert_is_refused_in_a_sentence(text: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_alerts(text)


def test_labels_that_are_none_are_left_out_and_times_without_a_zone_are_not_believed() -> None:
    (found,) = read_alerts(
        orjson.dumps(alert("A", labels={"pod": 3, "a;b": "x", "ok": "y"}, startsAt="2026-11-22T01:00:00"))
    )
    assert found.labels == {"alertname": "A", "severity": "ticket", "ok": "y"}
    assert found.since is None


def test_what_is_shown_steers_no_terminal_and_holds_no_secret() -> None:
    assert shown("a\x1b[31mb\u202ec\nd\x07") == "a[31mbc d"
    assert shown("redis://user:hunter2@cache/0") == "redis://user:[secret]@cache/0"
    assert len(shown("x" * 10_000)) == 300
