"""What a Pulumi engine and its Python host do of a run, without them.

The host starts a process that connects to the engine's monitor over gRPC, goes into the program's folder and runs it
as `__main__`, with its settings in the environment. Here the monitor is the plan's own, behind a real gRPC server, so
what a program asks for is seen as an engine would see it. Where the host's own script
(`pulumi-language-python-exec`) is on the path, that starts the program; else `pulumi_host.py`, which does the same.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, resource_pb2_grpc

from infra.files import Configured
from infra.recording import PROJECT, Answers, RecordingMonitor

ROOT = Path(__file__).parents[2]
HOST = "pulumi-language-python-exec"
_CALLS = (
    "GetDeploymentInfo",
    "Invoke",
    "ReadResource",
    "RegisterResource",
    "RegisterResourceOutputs",
    "RegisterPackage",
    "SignalAndWaitForShutdown",
)


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Hands each call to the recording monitor, one at a time."""

    def __init__(self, monitor: RecordingMonitor) -> None:
        lock = threading.Lock()

        def handed(name: str) -> Any:
            def answer(request: Any, _context: Any) -> Any:
                with lock:
                    return getattr(monitor, name)(request)

            return answer

        for name in _CALLS:
            setattr(self, name, handed(name))

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "answered by GetDeploymentInfo")


class Engine(engine_pb2_grpc.EngineServicer):
    """Keeps what the program says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def Log(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802 - gRPC's name
        if request.severity >= engine_pb2.WARNING:
            self.said.append(request.message)
        return empty_pb2.Empty()


@contextmanager
def serving(monitor: RecordingMonitor, engine: Engine) -> Iterator[str]:
    """The address of both, on loopback."""
    server = grpc.server(ThreadPoolExecutor(4))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(Monitor(monitor), server)
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def run(
    stack: str, region: str, given: Configured, outputs: Mapping[str, Mapping[str, Any]]
) -> tuple[subprocess.CompletedProcess[str], RecordingMonitor, Engine]:
    """One run of the project's program for a stack, in a process that knows this repository by its folder alone."""
    monitor, engine = RecordingMonitor(Answers(region, outputs), stack), Engine()
    with serving(monitor, engine) as address:
        host = shutil.which(HOST) or str(Path(__file__).with_name("pulumi_host.py"))
        flags = {"monitor": address, "engine": address, "project": PROJECT, "stack": stack, "pwd": str(ROOT / "infra")}
        given_flags = [f"--{name}={text}" for name, text in flags.items()]
        ran = subprocess.run(
            # -P: the host's own folder is not on the path.
            [sys.executable, "-P", host, *given_flags, "--parallel=4", "--dry_run=false", "."],
            env=_environment(given),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    return ran, monitor, engine


def _environment(given: Configured) -> Mapping[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    secret = json.dumps(sorted(given.encrypted))
    return {**kept, "PULUMI_CONFIG": json.dumps(dict(given.texts)), "PULUMI_CONFIG_SECRET_KEYS": secret}
