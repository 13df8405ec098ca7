"""Runs in the policy pack's own environment: starts the pack as the engine does, and asks it about resources.

In: JSON of resources (`urn`, `type`, `name`, `properties`, `protect`) on stdin. Out: JSON of [policy, urn, message].
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent.parent
ASK_S = 30


def request(resources):
    asked = analyzer_pb2.AnalyzeStackRequest()
    for given in resources:
        one = asked.resources.add(urn=given["urn"], type=given["type"], name=given["name"])
        one.properties.update(given["properties"])
        one.options.protect = given["protect"]
    return asked


def main():
    command = [sys.executable, "-u", "-m", "pulumi.policy", "127.0.0.1:1", str(ROOT / "infra" / "policy")]
    environment = {**os.environ, "PULUMI_PROJECT": "trellis", "PULUMI_STACK": "one", "PULUMI_DRY_RUN": "true"}
    pack = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/", env=environment)
    try:
        port = int(pack.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            analyzer = analyzer_pb2_grpc.AnalyzerStub(channel)
            answer = analyzer.AnalyzeStack(request(json.load(sys.stdin)), timeout=ASK_S)
    finally:
        pack.terminate()
        pack.wait()
    print(json.dumps([[one.policyName, one.urn, one.message] for one in answer.diagnostics]))


if __name__ == "__main__":
    main()
