"""Stacks of a few resources, recorded without an engine."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pulumi

from infra.recording import Graph, Resource, record

STACK = "small-eu-central-1-infra"
URN = f"urn:pulumi:{STACK}::trellis::"


class Part(pulumi.ComponentResource):
    def __init__(self, name: str, **options: Any) -> None:
        super().__init__("trellis:aws:Part", name, None, pulumi.ResourceOptions(**options))


class Thing(pulumi.CustomResource):
    """A resource that takes any inputs."""

    def __init__(self, name: str, inputs: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__("aws:s3/bucket:Bucket", name, dict(inputs or {}), pulumi.ResourceOptions(**options))


def recorded(program: Callable[[], None], outputs: Mapping[str, Mapping[str, Any]] | None = None) -> Graph:
    """In a thread of its own: Pulumi's runtime and its event loop are the thread's."""
    with ThreadPoolExecutor(1) as pool:
        context = copy_context()
        return pool.submit(context.run, record, STACK, "eu-central-1", program, {}, outputs or {}).result()


def resource(name: str, kind: str = "aws:s3/bucket:Bucket", **fields: Any) -> Resource:
    """As a graph holds it; what is not said is empty."""
    whole: dict[str, Any] = {
        "urn": f"{URN}{kind}::{name}",
        "type": kind,
        "name": name,
        "parent": "",
        "custom": True,
        "inputs": {},
        "secrets": [],
        "depends_on": [],
        "protect": False,
        "aliases": [],
        "ignore_changes": [],
        "provider": "",
    }
    return Resource(**{**whole, **fields})


def graph(*resources: Resource, stack: str = STACK) -> Graph:
    return Graph(stack, sorted(resources, key=lambda one: one.urn), {})


def stack_file(folder: Path, stack: str, settings: Mapping[str, str], more: Sequence[str] = ()) -> None:
    lines = ["config:", *(f'  trellis:{key}: "{value}"' for key, value in settings.items()), *more]
    (folder / f"Pulumi.{stack}.yaml").write_text("\n".join(lines) + "\n")


CELL = {
    "account": "222222222222",
    "alarmEmail": "ops@trellis.test",
    "domain": "agents.trellis.test",
    "zone": "Z0123456789ABCDEFGHIJ",
    "cidr": "10.20.0.0/16",
    "admins": "arn:aws:iam::222222222222:role/platform",
}
