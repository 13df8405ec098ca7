"""AWS for drills: a moto server of our own on loopback, and the environment in which `aws` asks it and nobody else.

moto imitates the API and keeps what it is told; it runs nothing. What is a matter of AWS's own doing (a DNS answer, a
failover's data) cannot be seen here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.monitoring import answers
from tests.support.processes import ROOT, wait_until
from tests.support.server import free_port

REGION: Final = "eu-central-1"
PROGRAM: Final = Path(sys.executable).with_name("aws")
"""awscli beside the interpreter: what the shim `aws` runs."""
_READY_S: Final = 300.0
_STOP_S: Final = 10.0


@dataclass(frozen=True)
class Aws:
    """`url`: of the server. `environment`: all that `aws` and botocore need to ask it; the credentials are made up."""

    url: str
    environment: Mapping[str, str]

    def call(self, *words: str) -> Any:
        """What `aws` answers, as JSON (None where it says nothing): commands of the API, `s3api` and not `s3`.

        Raises RuntimeError with its errors.
        """
        environment = {**os.environ, **self.environment}
        done = subprocess.run(  # noqa: S603 - awscli, no shell
            [PROGRAM, *words], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"aws {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None


@contextmanager
def running_aws(folder: Path, region: str = REGION) -> Iterator[Aws]:
    """An account with nothing in it. What the server says is in `folder`, which is made."""
    folder.mkdir(parents=True)
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "moto.log"
    with log.open("wb") as written:
        process = subprocess.Popen(  # noqa: S603 - our own choice of program
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            cwd=ROOT,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/moto-api/"), "moto is ready", _READY_S)
        if process.poll() is not None:
            raise RuntimeError(f"moto ended: {log.read_text()[-2000:]}")
        yield Aws(url, _environment(url, region))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)


def _environment(url: str, region: str) -> Mapping[str, str]:
    """Nothing of the user's own is read: neither files nor a proxy nor the metadata of a machine in AWS."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "drill",
        "AWS_SECRET_ACCESS_KEY": "drill",
        "AWS_SESSION_TOKEN": "drill",
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_OUTPUT": "json",
        "AWS_PAGER": "",
        "NO_PROXY": "127.0.0.1,localhost",
    }
