"""A part of a stack: raw resources under one parent."""

from collections.abc import Mapping
from typing import Any

import pulumi

from infra.naming import PREFIX, prefix, tags
from infra.settings import Stack


class Component(pulumi.ComponentResource):
    """Named after its part; children are made with `self.child` and named `<prefix>-<part>`."""

    def __init__(self, kind: str, stack: Stack, *, part: str = "", opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{PREFIX}:{kind}", part or kind.rpartition(":")[2].lower(), None, opts)
        self.stack = stack

    def named(self, name: str) -> str:
        return f"{prefix(self.stack)}-{name}"

    def tagged(self, name: str) -> Mapping[str, str]:
        return tags(self.stack, self.named(name))

    def child(self, **more: Any) -> pulumi.ResourceOptions:
        """Options of a resource of this part."""
        return pulumi.ResourceOptions(parent=self, **more)
