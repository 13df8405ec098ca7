"""Runs a stack's program without an engine and keeps what it asked for, as an engine would have seen it.

The monitor is Pulumi's own for tests; a subclass of it also keeps what mocks are not told: protection, aliases,
dependencies, and which values are secret.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, config, set_mocks
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import alias_pb2
from pulumi.runtime.settings import SETTINGS, set_root_resource
from pulumi.runtime.stack import run_in_stack

from infra.errors import InfraError

PROJECT: Final = "trellis"
# How Pulumi's wire format marks a secret: a struct with this signature (sdk/go/common/resource/sig).
_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SIGNED_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a mark, not a secret
HIDDEN: Final = "[secret]"
_ROOT: Final = "pulumi:pulumi:Stack"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource that a program asked for.

    `inputs` are as the engine gets them, secrets hidden; `secrets` names the inputs (dotted paths) that are marked
    secret. `depends_on` holds URNs, `aliases` those that it had before, its parents' renaming counted in.
    """

    urn: str
    type: str
    name: str
    parent: str
    custom: bool
    inputs: Mapping[str, Any]
    secrets: Sequence[str]
    depends_on: Sequence[str]
    protect: bool
    aliases: Sequence[str]
    ignore_changes: Sequence[str]
    provider: str


@dataclass(frozen=True, slots=True)
class Graph:
    """What one stack asks for, in order of URN; its outputs, secrets hidden."""

    stack: str
    resources: Sequence[Resource]
    outputs: Mapping[str, Any]

    def of(self, *types: str) -> Sequence[Resource]:
        return [resource for resource in self.resources if resource.type in types]


# What AWS says of a resource once it is made, where a program reads on.
_COMPUTED: Final[Mapping[str, Mapping[str, Any]]] = {
    "aws:eks/cluster:Cluster": {
        "certificateAuthority": {"data": "b2ZmbGluZQ=="},
        "vpcConfig": {"clusterSecurityGroupId": "sg-0ff11ne"},
    },
    "aws:rds/instance:Instance": {"masterUserSecrets": [{"secretArn": "arn:aws:secretsmanager:offline"}]},
    "aws:rds/cluster:Cluster": {"masterUserSecrets": [{"secretArn": "arn:aws:secretsmanager:offline"}]},
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 1},
    "aws:lb/loadBalancer:LoadBalancer": {"zoneId": "ZOFFLINE"},
    "aws:globalaccelerator/accelerator:Accelerator": {"hostedZoneId": "ZOFFLINE"},
    "aws:acm/certificate:Certificate": {
        "domainValidationOptions": [
            {
                "domainName": "offline.example",
                "resourceRecordName": "_offline",
                "resourceRecordType": "CNAME",
                "resourceRecordValue": "offline.example",
            }
        ]
    },
}


_FORMS: Final[Mapping[str, str]] = {"aws:ec2/subnet:Subnet": "subnet", "aws:ec2/securityGroup:SecurityGroup": "sg"}
_HOSTS: Final = (
    "endpoint",
    "address",
    "readerEndpoint",
    "dnsName",
    "configurationEndpointAddress",
    "primaryEndpointAddress",
    "repositoryUrl",
)


class Answers(Mocks):
    """What a provider would answer: an id, a few computed outputs, and the facts that programs look up."""

    def __init__(self, region: str, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        self._region = region
        self._outputs = outputs

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            return args.name, self._reference(str(args.inputs["name"]))
        return _id(args.typ, args.name), _joined(self._computed(args), args.inputs)

    def call(self, args: MockCallArgs) -> dict[Any, Any]:  # type: ignore[override]
        """Programs look nothing up: settings and tables say what they need, so that a plan needs no account."""
        raise InfraError(f"A program asks '{args.token}' of a provider: an offline plan cannot answer it.")

    def _reference(self, stack: str) -> dict[str, Any]:
        found = self._outputs.get(stack.rpartition("/")[2])
        if found is None:
            raise InfraError(f"The stack '{stack}' has to be made first: its outputs are read.")
        return {"name": stack, "outputs": dict(found), "secretOutputNames": []}

    def _computed(self, args: MockResourceArgs) -> dict[str, Any]:
        service = args.typ.split(":")[1].split("/")[0] if args.typ.startswith("aws:") else ""
        if not service:
            return {}
        host = f"{args.name}.{self._region}.example"
        found = {
            "arn": f"arn:aws:{service}:{self._region}:000000000000:{args.name}",
            "name": args.name,
            **dict.fromkeys(_HOSTS, host),
        }
        return {**found, **_COMPUTED.get(args.typ, {})}


def _id(kind: str, name: str) -> str:
    """Of AWS's form where others hold it against that: Karpenter's definitions do."""
    form = _FORMS.get(kind)
    return f"{name}-id" if form is None else f"{form}-{hashlib.sha256(name.encode()).hexdigest()[:17]}"


def _joined(computed: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Both, also within parts that have fields of either kind; what was asked for wins."""
    return {
        **computed,
        **{
            key: _joined(computed[key], value)
            if isinstance(value, dict) and isinstance(computed.get(key), dict)
            else value
            for key, value in inputs.items()
        },
    }


class RecordingMonitor(MockMonitor):
    """Keeps every registration of one stack as it came over the wire."""

    def __init__(self, mocks: Mocks, stack: str) -> None:
        super().__init__(mocks)
        self._stack = stack
        self._recorded: dict[str, Resource] = {}
        self._outputs: Mapping[str, Any] = {}

    def graph(self) -> Graph:
        """What was asked for so far."""
        recorded = sorted(self._recorded.values(), key=lambda resource: resource.urn)
        return Graph(self._stack, recorded, self._outputs)

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """As the engine makes it: after the types of all its parents but the stack's own."""
        return urn_of(self._stack, PROJECT, parent, type_, name)

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - gRPC's name
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != _ROOT:
            self._keep(answer.urn, request)
        return answer

    def RegisterResourceOutputs(self, request: Any) -> empty_pb2.Empty:  # noqa: N802 - gRPC's name
        if f"::{_ROOT}::" in request.urn:
            self._outputs = _shown(request.outputs)[0]
        return empty_pb2.Empty()

    def _parents(self, urn: str) -> Sequence[str]:
        """A parent by the name that it has, and by those that it had."""
        parent = self._recorded.get(urn)
        return (urn, *(parent.aliases if parent else ()))

    def _keep(self, urn: str, request: Any) -> None:
        if urn in self._recorded:
            raise InfraError(
                f"Two resources of type '{request.type}' are named '{request.name}': give one another name."
            )
        inputs, secrets = _shown(request.object)
        self._recorded[urn] = Resource(
            urn=urn,
            type=request.type,
            name=request.name,
            parent=request.parent,
            custom=request.custom,
            inputs=inputs,
            secrets=sorted({*secrets, *request.additionalSecretOutputs}),
            depends_on=sorted(set(request.dependencies)),
            protect=request.protect,
            aliases=sorted(former(request, self._stack, self._parents(request.parent)) - {urn}),
            ignore_changes=sorted(request.ignoreChanges),
            provider=request.provider.rpartition("::")[0],
        )


def record(
    stack: str,
    region: str,
    program: Callable[[], None],
    settings: Mapping[str, str],
    outputs: Mapping[str, Mapping[str, Any]],
    secrets: Sequence[str] = (),
) -> Graph:
    """Runs the program once, in this process: Pulumi's runtime is the process's own, so one stack a process is best.

    Args:
        settings: the stack's configuration, by full key (`trellis:domain`).
        secrets: those of its keys that are encrypted.
        outputs: of stacks that were recorded before, by name, for references.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    answers = Answers(region, outputs)
    monitor = RecordingMonitor(answers, stack)
    config.set_all_config(dict(settings), list(secrets))
    set_mocks(answers, project=PROJECT, stack=stack, preview=False, monitor=monitor)
    SETTINGS.outputs = set()
    # Mocks come with a root of their own that is already finished: outputs need one that is not.
    set_root_resource(None)  # type: ignore[arg-type]
    try:
        loop.run_until_complete(run_in_stack(program))
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return monitor.graph()


def urn_of(stack: str, project: str, parent: str, kind: str, name: str) -> str:
    """A resource's URN as the engine makes it; `parent` is empty for one at the top."""
    above = parent.split("::")[2] if parent else _ROOT
    return f"urn:pulumi:{stack}::{project}::{'' if above == _ROOT else above + '$'}{kind}::{name}"


def former(request: Any, stack: str, parents: Sequence[str]) -> set[str]:
    """Every URN that a resource may have had: its own aliases under each name of its parent.

    The rule is the engine's (`inherited_child_alias` of Pulumi's library): a child whose name begins with its parent's
    follows that when it is renamed.
    """
    found = set[str]()
    for alias in (None, *request.aliases):
        if alias is not None and alias.WhichOneof("alias") == "urn":
            found.add(alias.urn)
            continue
        spec = alias.spec if alias is not None else alias_pb2.Alias.Spec()
        for parent in _above(spec, parents):
            name = spec.name or _following(request.name, parents[0], parent)
            found.add(urn_of(spec.stack or stack, spec.project or PROJECT, parent, spec.type or request.type, name))
    return found


def _above(spec: alias_pb2.Alias.Spec, parents: Sequence[str]) -> Sequence[str]:
    """The parents that an alias means: its own, none, or those of the resource where it says nothing."""
    if spec.noParent:
        return ("",)
    return (spec.parentUrn,) if spec.parentUrn else parents


def _following(name: str, parent: str, before: str) -> str:
    now, then = parent.rpartition("::")[2], before.rpartition("::")[2]
    return then + name.removeprefix(now) if now and then != now and name.startswith(now) else name


def _shown(struct: struct_pb2.Struct) -> tuple[dict[str, Any], list[str]]:
    """Plain values with secrets hidden, and the paths of those."""
    secrets: list[str] = []
    return {key: _hide(item, key, secrets) for key, item in sorted(MessageToDict(struct).items())}, secrets


def _hide(value: Any, path: str, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SIGNED_SECRET:
            secrets.append(path)
            return HIDDEN
        return {key: _hide(item, f"{path}.{key}", secrets) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [_hide(item, f"{path}[{index}]", secrets) for index, item in enumerate(value)]
    # The wire knows no integers.
    return int(value) if isinstance(value, float) and value.is_integer() else value
