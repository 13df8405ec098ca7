"""Who answers for a Service, at every moment: each change of its EndpointSlices, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.kubernetes import Kubernetes, Object

Names = frozenset[str]


@dataclass(frozen=True)
class Endpoints:
    """Of one Service."""

    api: Kubernetes
    namespace: str
    service: str

    def now(self) -> Names:
        """Names of the pods that are ready to be asked."""
        return _ready({one["metadata"]["name"]: one for one in self._list()["items"]})

    def addresses(self) -> frozenset[str]:
        """Of the same pods."""
        ready = (one for found in self._list()["items"] for one in found.get("endpoints") or ())
        return frozenset(str(one["addresses"][0]) for one in ready if one["conditions"].get("ready"))

    def mark(self) -> "Mark":
        """From here on everything is known later."""
        found = self._list()
        return Mark(self, found["items"], found["metadata"]["resourceVersion"])

    @property
    def path(self) -> str:
        select = f"labelSelector=kubernetes.io%2Fservice-name%3D{self.service}"
        return f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices?{select}"

    def _list(self) -> dict[str, Any]:
        return self.api.send("GET", self.path)


@dataclass(frozen=True)
class Mark:
    """A moment: `slices` as they were."""

    endpoints: Endpoints
    slices: Sequence[Object]
    version: str

    def since(self) -> Sequence[Names]:
        """Who was ready at that moment and after each change since."""
        known = {one["metadata"]["name"]: one for one in self.slices}
        found = [_ready(known)]
        for what, one in self.endpoints.api.history(self.endpoints.path, self.version):
            if what == "DELETED":
                known.pop(one["metadata"]["name"], None)
            else:
                known[one["metadata"]["name"]] = one
            found.append(_ready(known))
        return found


def _ready(slices: dict[str, Object]) -> Names:
    return frozenset(
        str(endpoint["targetRef"]["name"])
        for one in slices.values()
        for endpoint in one.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
    )
