"""A real OpenTelemetry collector, built once from tests/collector by Go, and a place that takes what it sends.

The program is kept in `.tools/collector`, under a name that changes with its sources.
"""

import gzip
import hashlib
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.components import missing, require
from tests.support.server import ROOT, free_port

SOURCES = ROOT / "tests" / "collector"
KEPT = ROOT / ".tools" / "collector"
BUILD_S = 1200
READY_S = 60.0


def collector_program() -> Path:
    """The program, built where it is not kept: some minutes, once. Skips where there is no Go or no way to modules."""
    go = require("go")
    sources = b"".join((SOURCES / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    program = KEPT / f"otelcol-{hashlib.sha256(sources).hexdigest()[:16]}"
    if program.exists():
        return program
    KEPT.mkdir(parents=True, exist_ok=True)
    # Beside, then renamed: a build that was ended half-way is never taken for one.
    beside = program.with_suffix(f".{os.getpid()}")
    built = subprocess.run(
        [go, "build", "-trimpath", "-ldflags=-s -w", "-o", beside, "."],
        cwd=SOURCES,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    if built.returncode:
        missing("go", f"the collector cannot be built: {built.stderr.strip().splitlines()[-1]}")
    beside.rename(program)
    for old in set(KEPT.iterdir()) - {program}:
        old.unlink()
    return program


class Backend:
    """Stands for Tempo, Loki and Prometheus: keeps the bodies that were sent to each path."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        self.status = 200
        """What it answers; it keeps what it answers with success."""
        self._changed = threading.Condition()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                # Kept before it is answered: who was told of a success may look at once.
                if backend.status == 200:
                    backend._take(self.path, body)
                self.send_response(backend.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Backend":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, body: bytes) -> None:
        with self._changed:
            self.bodies.setdefault(path, []).append(body)
            self._changed.notify_all()

    def wait_for(self, path: str, timeout_s: float = 30.0) -> bytes:
        """All that was sent to `path`, once something was."""
        with self._changed:
            assert self._changed.wait_for(lambda: path in self.bodies, timeout_s), f"nothing came to {path}"
            return b"".join(self.bodies[path])

    def spans(self) -> list[Span]:
        found = []
        with self._changed:
            bodies = list(self.bodies.get("/v1/traces", ()))
        for body in bodies:
            request = ExportTraceServiceRequest.FromString(body)
            found += [span for rs in request.resource_spans for ss in rs.scope_spans for span in ss.spans]
        return found


class Collector:
    """One process over a configuration, whose ports are replaced by free ones of loopback."""

    def __init__(self, program: Path, document: Mapping[str, Any], home: Path, **environment: str) -> None:
        home.mkdir(exist_ok=True)
        self.grpc, self.http, self._health, self._metrics = (free_port() for _ in range(4))
        self._file, self._log = home / "collector.yaml", home / "collector.log"
        self._file.write_text(yaml.safe_dump(self._placed(document)))
        self._command = [str(program), "--config", str(self._file)]
        self._environment = {**os.environ, "COLLECTOR_QUEUE": str(home / "queue"), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def _placed(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        found = orjson.loads(orjson.dumps(document))
        protocols = found["receivers"]["otlp"]["protocols"]
        protocols["grpc"]["endpoint"], protocols["http"]["endpoint"] = (
            f"127.0.0.1:{port}" for port in (self.grpc, self.http)
        )
        found["extensions"]["health_check"]["endpoint"] = f"127.0.0.1:{self._health}"
        reader = found["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
        reader |= {"host": "127.0.0.1", "port": self._metrics}
        return found

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        with self._log.open("ab") as log:
            process = self.process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            self._wait_ready(process)
            yield self
        finally:
            process.kill()
            process.wait(20)

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert process.poll() is None, f"the collector ended: {self._log.read_text()[-3000:]}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._health}", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the collector was not ready in time: {self._log.read_text()[-3000:]}")

    def send(self, signal: str, body: Mapping[str, Any]) -> None:
        """OTLP as JSON. `signal`: traces, logs or metrics."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/v1/{signal}",
            data=orjson.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def exposition(self) -> str:
        """Its own figures, as Prometheus is given them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10) as response:
            return str(response.read().decode())
