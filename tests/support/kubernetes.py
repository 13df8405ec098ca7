"""A small client of Kubernetes' API for tests: what the API server says, without a library between."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import httpx2

Object = Mapping[str, Any]
MANAGER: Final = "tests"
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"


class Refused(Exception):
    """The API server's reason, with its status code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Kubernetes:
    """Paths are the API's own (`/api/v1/nodes`)."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def get(self, path: str) -> dict[str, Any] | None:
        """None where there is no such object."""
        try:
            return self.send("GET", path)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def items(self, path: str) -> list[dict[str, Any]]:
        """Of a list that is there, possibly empty."""
        return list(self.send("GET", path)["items"])

    def send(self, method: str, path: str, body: object = None, kind: str = "application/json") -> dict[str, Any]:
        """Raises Refused."""
        content = None if body is None else json.dumps(body)
        answer = self.http.request(method, path, content=content, headers={"Content-Type": kind})
        if answer.is_error:
            raise Refused(answer.status_code, _reason(answer))
        return dict(answer.json())

    def apply(self, manifest: Object, *, dry_run: bool = False) -> dict[str, Any]:
        """Server-side apply with strict fields; makes the object or changes it. Raises Refused."""
        how = f"fieldManager={MANAGER}&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.send("PATCH", f"{self.path(manifest)}?{how}", manifest, _APPLY)

    def merge(self, path: str, change: Object) -> dict[str, Any]:
        return self.send("PATCH", path, change, _MERGE)

    def strategic(self, path: str, change: Object) -> dict[str, Any]:
        """As `merge`, but lists of named things (containers) are changed by name."""
        return self.send("PATCH", path, change, _STRATEGIC)

    def scale(self, path: str, replicas: int) -> None:
        self.merge(f"{path}/scale", {"spec": {"replicas": replicas}})

    def delete(self, path: str) -> None:
        self.send("DELETE", path, {"propagationPolicy": "Background"})

    def evict(self, pod: Object) -> str | None:
        """As a drain asks: why a PodDisruptionBudget does not allow it now. None where it does, or the pod has gone."""
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": meta["name"]}}
        try:
            self.send("POST", path, body)
        except Refused as refused:
            if refused.code not in (404, 429):
                raise
            return None if refused.code == 404 else str(refused)
        return None

    def history(self, path: str, since: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every change of a list after a resource version, in order: (`ADDED`, `MODIFIED` or `DELETED`, object)."""
        sign = "&" if "?" in path else "?"
        address = f"{path}{sign}watch=1&resourceVersion={since}&timeoutSeconds=1"
        with self.http.stream("GET", address) as answer:
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Refused(int(event["object"]["code"]), str(event["object"]["message"]))
                yield event["type"], event["object"]

    def path(self, manifest: Object) -> str:
        """Where an object is. Raises Refused for a kind that the API server does not have."""
        version, kind, meta = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
        plural, namespaced = self._kind(version, kind)
        space = f"/namespaces/{meta.get('namespace', 'default')}" if namespaced else ""
        return f"{_root(version)}{space}/{plural}/{meta['name']}"

    def has(self, version: str, kind: str) -> bool:
        try:
            self._kind(version, kind)
        except Refused:
            return False
        return True

    def _kind(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._kinds:
            resources = (self.get(_root(version)) or {}).get("resources", ())
            self._kinds |= {
                (version, one["kind"]): (one["name"], one["namespaced"]) for one in resources if "/" not in one["name"]
            }
        if (version, kind) not in self._kinds:
            raise Refused(404, f"the API server has no {kind} of {version}")
        return self._kinds[version, kind]


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json().get("message"))
    except ValueError:
        return answer.text


def is_ready(thing: Object, condition: str = "Ready") -> bool:
    """By its conditions."""
    conditions: Sequence[Object] = thing.get("status", {}).get("conditions") or ()
    return any(one["type"] == condition and one["status"] == "True" for one in conditions)
