"""A part of what runs in a cluster."""

from collections.abc import Sequence
from typing import Any

import pulumi

from infra.component import Component
from infra.settings import Stack


class Part(Component):
    """Each of its resources comes after all that `after` names: Pulumi itself would have only the parent wait."""

    def __init__(
        self,
        kind: str,
        stack: Stack,
        opts: pulumi.ResourceOptions,
        *,
        part: str = "",
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        super().__init__(f"kubernetes:{kind}", stack, part=part, opts=opts)
        self._after = tuple(after)

    def child(self, *, depends_on: Sequence[pulumi.Resource] = (), **more: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=[*self._after, *depends_on], **more)
