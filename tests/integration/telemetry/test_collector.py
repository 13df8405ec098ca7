"""The committed configurations of the collector, read by a real one; its rules, tried by sending traces."""

import random
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.telemetry.names import LASTS
from infra.phases import PHASES, PhaseName
from provisioning.src import collector
from provisioning.src.sampling import plan
from tests.support.collector import BUILD_S, Backend, Collector, collector_program
from tests.support.processes import wait_until

PHASE = PHASES[PhaseName.SMALL]
SIZES = replace(plan(PHASE), wait_s=1)
COMMITTED = sorted(collector.FOLDER.glob("*/*.yaml"))
TRACES, FAILED, SLOW, STREAMS = 200, 12, 12, 12
PLANTED = {
    "mail": "ann.lee@example.com",
    "mail in a URL": "ann.lee%40example.com",
    "phone": "+49 171 2345678",
    "national phone": "0171 2345678",
    "card": "4111 1111 1111 1111",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "policy": "POL-0012345",
    "token": "Bearer abcdefgh12345678",
}
HARMLESS = {"route": "/v1/leads/{lead_id}", "at": "2026-11-21T22:00:00Z", "nanos": "1795298400123456789", "ms": "1250"}
# The first of these tests on a machine builds the collector.
pytestmark = pytest.mark.timeout(BUILD_S + 60)


@pytest.fixture(scope="module")
def program() -> Path:
    return collector_program()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_collector_takes_each_committed_file(program: Path, path: Path) -> None:
    found = subprocess.run([program, "validate", "--config", path], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


@dataclass(frozen=True)
class Tiers:
    """A gateway and a sampler of the phase small; k8s_attributes is left out, for want of a cluster to ask."""

    gateway: Collector
    sampler: Collector
    backend: Backend


@pytest.fixture(scope="module")
def tiers(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiers]:
    home = tmp_path_factory.mktemp("collector")
    with Backend() as backend:
        sampler = Collector(program, collector.sampler(SIZES), home / "sampler", TEMPO_URL=backend.url)
        with sampler.running(), gateway(program, home / "gateway", sampler.grpc, backend).running() as first:
            yield Tiers(first, sampler, backend)


def gateway(program: Path, home: Path, sampler: int, backend: Backend) -> Collector:
    document: dict[str, Any] = dict(collector.gateway())
    exporters = dict(document["exporters"])
    exporters["load_balancing"] = {
        **exporters["load_balancing"],
        "resolver": {"static": {"hostnames": [f"127.0.0.1:{sampler}"]}},
    }
    pipelines = {
        signal: {**pipe, "processors": [name for name in pipe["processors"] if name != "k8s_attributes"]}
        for signal, pipe in document["service"]["pipelines"].items()
    }
    document |= {"exporters": exporters, "service": {**document["service"], "pipelines": pipelines}}
    addresses = {"LOKI_URL": backend.url, "PROMETHEUS_URL": backend.url, "TRELLIS_REGION": "eu-central-1"}
    return Collector(program, document, home, **addresses)


@pytest.fixture(scope="module")
def sent(tiers: Tiers) -> Mapping[str, Sequence[str]]:
    """The ids of 200 traces by kind, once the sampler has decided on all and its batches have arrived."""
    ids = [f"{random.Random(number).getrandbits(128):032x}" for number in range(TRACES)]
    kinds = {
        "failed": ids[:FAILED],
        "slow": ids[FAILED : FAILED + SLOW],
        "streams": ids[FAILED + SLOW : FAILED + SLOW + STREAMS],
        "rest": ids[FAILED + SLOW + STREAMS :],
    }
    for kind, members in kinds.items():
        tiers.gateway.send("traces", {"resourceSpans": [resource(kind, members)]})
    wait_until(lambda: sum(decided(tiers).values()) == TRACES, "every trace is decided")
    wait_until(lambda: len(kept(tiers)) == decided(tiers)["sampled"], "what was kept arrived")
    return kinds


def resource(kind: str, ids: Sequence[str]) -> dict[str, Any]:
    attributes = [text("service.name", "trellis"), text("owner", PLANTED["mail"])]
    return {
        "resource": {"attributes": attributes},
        "scopeSpans": [{"spans": [span for one in ids for span in trace(kind, one)]}],
    }


def trace(kind: str, trace_id: str) -> list[dict[str, Any]]:
    """A request and a call within it; the failure is the inner one's."""
    lasts_s = {"slow": 4.0, "streams": 5.0}.get(kind, 0.2)
    root, child = trace_id[:16], trace_id[16:]
    begin = time.time_ns()
    times = {"startTimeUnixNano": str(begin), "endTimeUnixNano": str(begin + int(lasts_s * 1e9))}
    outer = {"traceId": trace_id, "spanId": root, "name": f"POST for {PLANTED['mail']}", "kind": 2, **times}
    outer["attributes"] = [text(name, value) for name, value in (PLANTED | HARMLESS).items()]
    outer["attributes"] += [text("http.request.header.authorization", "secret-of-ours"), text("x", "gen_ai")]
    outer["attributes"].append(text("gen_ai.input.messages", "what was asked"))
    outer["events"] = [{"timeUnixNano": str(begin), "name": "exception", "attributes": [text("m", PLANTED["card"])]}]
    if kind == "streams":
        outer["attributes"].append({"key": LASTS, "value": {"boolValue": True}})
    inner = {"traceId": trace_id, "spanId": child, "parentSpanId": root, "name": "chat", "kind": 3, **times}
    if kind == "failed":
        inner["status"] = {"code": 2, "message": f"no reply to {PLANTED['mail']}"}
    return [outer, inner]


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def decided(tiers: Tiers) -> dict[str, int]:
    """By decision, from the sampler's own figures."""
    pattern = r'^otelcol_processor_tail_sampling_global_count_traces_sampled\{.*decision="(\w+)".*\} (\d+)'
    found = {"sampled": 0, "not_sampled": 0}
    for decision, count in re.findall(pattern, tiers.sampler.exposition(), re.MULTILINE):
        found[decision] = found.get(decision, 0) + int(count)
    return found


def kept(tiers: Tiers) -> dict[str, list[Span]]:
    """The spans that arrived, by trace."""
    found: dict[str, list[Span]] = {}
    for span in tiers.backend.spans():
        found.setdefault(span.trace_id.hex(), []).append(span)
    return found


def test_all_failed_and_slow_traces_are_kept_whole(tiers: Tiers, sent: Mapping[str, Sequence[str]]) -> None:
    arrived = kept(tiers)
    for trace_id in (*sent["failed"], *sent["slow"]):
        assert [span.name[:4] for span in arrived[trace_id]] == ["POST", "chat"]


def test_of_the_rest_the_share_of_the_phase_is_kept(tiers: Tiers, sent: Mapping[str, Sequence[str]]) -> None:
    rest = [*sent["rest"], *sent["streams"]]
    share = len(kept(tiers).keys() & set(rest)) / len(rest)
    assert SIZES.percent == 10
    assert 0.03 < share < 0.2


def test_a_stream_within_ten_times_the_target_is_not_slow(tiers: Tiers, sent: Mapping[str, Sequence[str]]) -> None:
    assert len(kept(tiers).keys() & set(sent["streams"])) < STREAMS / 2


def test_what_was_planted_arrives_masked_everywhere(tiers: Tiers, sent: Mapping[str, Sequence[str]]) -> None:
    bodies = b"".join(tiers.backend.bodies["/v1/traces"]).decode(errors="replace")
    for secret in (*PLANTED.values(), "secret-of-ours", "what was asked"):
        assert secret not in bodies
    for value in HARMLESS.values():
        assert value in bodies
    assert "POST for ****" in bodies


def test_logs_and_metrics_pass_masked_with_their_region(tiers: Tiers) -> None:
    line = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": f"mail to {PLANTED['mail']}"}}
    tiers.gateway.send("logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [line]}]}]})
    point = {"asInt": "1", "timeUnixNano": str(time.time_ns()), "attributes": [text("who", PLANTED["mail"])]}
    metric = {"name": "sent", "gauge": {"dataPoints": [point]}}
    tiers.gateway.send("metrics", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
    logs, metrics = (tiers.backend.wait_for(path) for path in ("/otlp/v1/logs", "/api/v1/otlp/v1/metrics"))
    assert b"mail to ****" in logs
    for body in (logs, metrics):
        assert b"eu-central-1" in body
        assert PLANTED["mail"].encode() not in body


def test_what_could_not_be_sent_outlives_the_process(program: Path, tmp_path: Path) -> None:
    with Backend() as backend:
        backend.status = 503
        line = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "said before the end"}}
        found = gateway(program, tmp_path / "gateway", 1, backend)
        with found.running():
            found.send("logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [line]}]}]})
        backend.status = 200
        with found.running():
            assert b"said before the end" in backend.wait_for("/otlp/v1/logs")
