"""In the place of AWS's load balancer controller: the ready pods of a Service are the targets of its target group.

The target group is moto's: it calls a target healthy as soon as it is there, while a load balancer checks it first. So
the order of what is asked is rehearsed, and not how long AWS takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.kubernetes.environment import PORT
from runbooks.drill.stages.aws import Aws
from runbooks.drill.stages.controller import reconciling
from tests.cluster.endpoints import Endpoints

_EVERY_S: Final = 0.3


def target_group(aws: Aws) -> str:
    """The ARN of a group of addresses, with nothing in it."""
    network = aws.call("ec2", "create-vpc", "--cidr-block", "10.0.0.0/16")["Vpc"]["VpcId"]
    words = f"--name api --protocol HTTP --port {PORT} --target-type ip --vpc-id {network}".split()
    found = aws.call("elbv2", "create-target-group", *words)
    return str(found["TargetGroups"][0]["TargetGroupArn"])


@contextmanager
def balanced(aws: Aws, served: Endpoints, group: str, folder: Path) -> Iterator[None]:
    """Keeps the group as the Service's endpoints are, until the block ends. What goes wrong is in `folder`."""
    known: set[str] = set()
    with reconciling(lambda: _bring(aws, group, known, served.addresses()), _EVERY_S, folder / "balancer.log"):
        yield


def _bring(aws: Aws, group: str, known: set[str], wanted: frozenset[str]) -> None:
    """From what is known to be in the group to what is wanted in it."""
    new, gone = wanted - known, known - wanted
    for verb, addresses in (("register", new), ("deregister", gone)):
        if addresses:
            targets = [f"Id={address},Port={PORT}" for address in sorted(addresses)]
            aws.call("elbv2", f"{verb}-targets", "--target-group-arn", group, "--targets", *targets)
    known |= new
    known -= gone
