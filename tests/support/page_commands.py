"""Whether commands name what is there: targets, commands of ours, resources of the plan, operations of AWS."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import typer
from botocore import xform_name
from botocore.exceptions import UnknownServiceError
from botocore.session import get_session

from app.cache.caches import SWITCHES
from app.cli import cli
from app.container import PACKS
from app.errors import TrellisError
from app.governance.flags import KILL_ALL, MCP_SWITCH, FlagSpec, kill_switch, parsed
from app.knowledge.retrieve import FLAGS as RETRIEVAL_FLAGS
from infra.kubernetes.app import COLOURS
from infra.phases import PHASES
from tests.support.runbooks import ROOT
from tests.support.stacks import every_stack

KINDS: Mapping[str, str] = {
    word: kind
    for kind, words in {
        "Deployment": "deploy deployment deployments",
        "StatefulSet": "statefulset statefulsets sts",
        "DaemonSet": "daemonset daemonsets ds",
        "Service": "svc service services",
        "HorizontalPodAutoscaler": "hpa",
        "ScaledObject": "scaledobject scaledobjects",
        "NodePool": "nodepool nodepools",
        "CronJob": "cronjob cronjobs",
        "Job": "job jobs",
        "ExternalSecret": "externalsecret externalsecrets",
        "ServiceAccount": "serviceaccount sa",
        "TargetGroupBinding": "targetgroupbinding targetgroupbindings",
        "NetworkPolicy": "networkpolicy networkpolicies netpol",
        "ResourceQuota": "resourcequota",
        "PodDisruptionBudget": "pdb",
        "ConfigMap": "configmap configmaps cm",
        "Ingress": "ingress",
        "Secret": "secret secrets",
        "Pod": "pod pods po",
        # Made by the cluster or its operators: by no name that a page could know.
        "": "node nodes pvc pv events endpointslices nodeclaims nodeclaim apiservice certificate certificates "
        "certificaterequests orders challenge challenges clusterissuers namespace namespaces replicaset rs",
    }.items()
    for word in words.split()
}
OPERATORS: Mapping[tuple[str, str], str] = {
    ("kube-system", "karpenter"): "karpenter",
    ("kube-system", "metrics-server"): "metrics-server",
    ("kube-system", "aws-load-balancer-controller"): "aws-load-balancer-controller",
    ("cert-manager", "cert-manager"): "cert-manager",
    ("external-secrets", "external-secrets"): "external-secrets",
    ("keda", "keda-operator"): "keda",
    ("keda", "keda-operator-metrics-apiserver"): "keda",
}
"""Deployments that a chart or an add-on makes: (namespace, name) -> the one that does."""
_OF_A_WORKLOAD = ("logs", "exec", "port-forward", "debug", "cp", "attach")
_GROUPS = ("rollout", "set", "auth", "config")
_WITH_VALUE = frozenset(
    {
        *("-n", "--namespace", "--context", "-o", "--output", "-l", "--selector", "-c", "--container", "-p", "--patch"),
        *(
            "--type",
            "--field-selector",
            "--sort-by",
            "-L",
            "--label-columns",
            "--timeout",
            "--since",
            "--tail",
            "--from",
        ),
        *("-f", "--filename", "--image", "--target", "--as", "--replicas"),
    }
)


@dataclass
class Call:
    """A call of kubectl, taken apart."""

    verb: str
    places: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.options.get("-n", self.options.get("--namespace", "" if "-A" in self.options else "default"))


def apart(words: Sequence[str]) -> Call:
    places: list[str] = []
    options: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            break
        if not word.startswith("-"):
            places.append(word)
        elif "=" in word:
            name, _, value = word.partition("=")
            options[name] = value
        else:
            options[word] = next(rest, "") if word in _WITH_VALUE else ""
    verb = places.pop(0) if places else ""
    return Call(f"{verb} {places.pop(0)}" if verb in _GROUPS and places else verb, places, options)


@dataclass(frozen=True)
class Plan:
    """What the stacks ask for. `objects`: (kind, namespace, name); `containers` and `apps` (their label `name`) by
    namespace; `installed`: charts and add-ons; `aws`: values of inputs by their name."""

    objects: frozenset[tuple[str, str, str]]
    containers: Mapping[str, frozenset[str]]
    apps: Mapping[str, frozenset[str]]
    installed: frozenset[str]
    aws: Mapping[str, frozenset[str]]

    @property
    def namespaces(self) -> frozenset[str]:
        return frozenset(name for kind, _, name in self.objects if kind == "Namespace") | {"kube-system", "default"}


@cache
def plan() -> Plan:
    objects: set[tuple[str, str, str]] = set()
    containers: dict[str, set[str]] = {}
    apps: dict[str, set[str]] = {}
    installed: set[str] = set()
    aws: dict[str, set[str]] = {}
    for graph in every_stack().values():
        for one in graph.resources:
            if one.type.startswith("kubernetes:helm"):
                installed.add(one.name)
            elif one.type.startswith("kubernetes:"):
                _object(one.inputs, objects, containers, apps)
            elif one.type.startswith("aws:"):
                installed |= {one.inputs["addonName"]} if "addonName" in one.inputs else set()
                for name, value in one.inputs.items():
                    if isinstance(value, str):
                        aws.setdefault(f"{one.type.split(':')[1].split('/')[0]}.{name}", set()).add(value)
    return Plan(
        frozenset(objects), {k: frozenset(v) for k, v in containers.items()},
        {k: frozenset(v) for k, v in apps.items()}, frozenset(installed), {k: frozenset(v) for k, v in aws.items()},
    )  # fmt: skip


def _object(
    inputs: Mapping[str, Any],
    objects: set[tuple[str, str, str]],
    containers: dict[str, set[str]],
    apps: dict[str, set[str]],
) -> None:
    kind, meta, spec = inputs.get("kind", ""), inputs.get("metadata", {}), inputs.get("spec") or {}
    where, name = meta.get("namespace", ""), meta.get("name", "")
    for colour in COLOURS if name == f"api-{COLOURS[0]}" else ("",):
        objects.add((kind, where, f"api-{colour}" if colour else name))
    if kind == "ExternalSecret":
        objects.add(("Secret", where, name))
    objects.update(("Secret", where, one["secretName"]) for one in spec.get("tls") or ())
    template = (spec.get("jobTemplate", {}).get("spec") or spec).get("template") or {}
    pod = template.get("spec") or {}
    for container in (*pod.get("containers", ()), *pod.get("initContainers", ())):
        containers.setdefault(where, set()).add(container["name"])
    label = ((template.get("metadata") or {}).get("labels") or {}).get("app.kubernetes.io/name")
    if label:
        apps.setdefault(where, set()).add(label)


def kubectl_problems(words: Sequence[str]) -> Iterator[str]:
    """A name that is a placeholder (`$POD`) is not looked at."""
    call = apart(words)
    said = " ".join(words)
    namespaces = {call.namespace} if call.namespace and "$" not in call.namespace else set()
    yield from (f"`{said}`: no namespace {name}" for name in namespaces - plan().namespaces)
    for kind, name in _named(call):
        if kind is None:
            yield f"`{said}`: no kind of resource in '{name}'"
        elif name and "$" not in name and "$" not in call.namespace and not _there(kind, call.namespace, name):
            yield f"`{said}`: no {kind} {name} in {call.namespace}"
    for option in ("-c", "--container", "--target"):
        wanted = call.options.get(option, "")
        if wanted and wanted not in plan().containers.get(call.namespace, frozenset()):
            yield f"`{said}`: no container {wanted} in {call.namespace}"
    for app in re.findall(r"app\.kubernetes\.io/name=([\w-]+)", call.options.get("-l", "")):
        if not any(app in found for where, found in plan().apps.items() if call.namespace in ("", where)):
            yield f"`{said}`: nothing in {call.namespace or 'any namespace'} is labelled {app}"


def _named(call: Call) -> Iterator[tuple[str | None, str]]:
    """(kind, name): kind None where the word is none, name empty where all of a kind are meant."""
    source = call.options.get("--from", "")
    if source:
        yield _split(source)
    if call.verb in ("drain", "cordon", "uncordon", "top pods", "top nodes", "apply", "replace", "create", "config"):
        return
    if call.verb in _OF_A_WORKLOAD:
        yield from (_split(one) if "/" in one else ("Pod", one) for one in call.places[:1])
        return
    slashed = [one for one in call.places if "/" in one and "=" not in one and not one.endswith("-")]
    if slashed:
        yield from map(_split, slashed)
    elif call.places and not call.verb.startswith(("auth", "config")):
        kinds, *names = (one for one in call.places if "=" not in one)
        for kind in kinds.split(","):
            found = KINDS.get(kind)
            # With several names only `get`, `delete` and the like are meant; what follows `set env` has a sign in it.
            yield from ((found, name) for name in (_names(call.verb, names) or [kind if found is None else ""]))


def _names(verb: str, names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if not name.endswith("-")] if verb in ("annotate", "label") else names


def _split(word: str) -> tuple[str | None, str]:
    kind, _, name = word.partition("/")
    return KINDS.get(kind), name if kind in KINDS else word


def _there(kind: str, namespace: str, name: str) -> bool:
    if not kind:
        return True
    if kind == "Pod":
        owner, _, number = name.rpartition("-")
        return number.isdigit() and ("StatefulSet", namespace, owner) in plan().objects
    if OPERATORS.get((namespace, name)) in plan().installed:
        return kind == "Deployment"
    where = "" if kind in ("NodePool",) else namespace
    return (kind, where, name) in plan().objects


_IDENTIFIERS: Mapping[str, tuple[str, ...]] = {
    "db-instance-identifier": ("rds.identifier",),
    "source-db-instance-identifier": ("rds.identifier",),
    "db-cluster-identifier": ("rds.clusterIdentifier",),
    "global-cluster-identifier": ("rds.globalClusterIdentifier",),
    "db-subnet-group-name": ("rds.name",),
    "replication-group-id": ("elasticache.replicationGroupId",),
    "cache-parameter-group-name": ("elasticache.name",),
    "repository-name": ("ecr.name",),
    "names": ("lb.name",),
    "source-identifier": ("rds.identifier", "elasticache.replicationGroupId"),
    "resource-name": ("eks.name",),
}
_MAKES = ("target-db-instance-identifier", "db-snapshot-identifier")
_MAKING = ("create-db-instance-read-replica", "create-db-instance")
_GLOBAL = frozenset({"query", "output", "region", "profile", "no-cli-pager", "max-items", "no-paginate"})


def aws_problems(words: Sequence[str], made: frozenset[str] = frozenset()) -> Iterator[str]:
    """`made`: names that another command of the page gives."""
    said = " ".join(words)
    _, service, operation, *rest = words
    pairs = zip(rest, (*rest[1:], ""), strict=False)
    options = {name.removeprefix("--"): value for name, value in pairs if name[:2] == "--"}
    if service == "s3":
        yield from (f"`{said}`: no bucket {one}" for one in map(_bucket, rest) if one and not _bucket_is_there(one))
        return
    if operation != "wait":
        yield from (f"`{said}`: {problem}" for problem in _api_problems(service, operation, set(options) - _GLOBAL))
    for option, value in options.items():
        if operation in _MAKING and option == "db-instance-identifier":
            continue
        known = {name for key in _IDENTIFIERS.get(option, ()) for name in plan().aws.get(key, ())}
        if known and value not in made and not any(one in known for one in _by_phase(value)):
            yield f"`{said}`: no {option} {value}"


def names_made(calls: Sequence[Sequence[str]]) -> frozenset[str]:
    return frozenset(
        value
        for words in calls
        for name, value in pairwise(words)
        if name[2:] in _MAKES or (name == "--db-instance-identifier" and set(_MAKING) & set(words))
    )


def _api_problems(service: str, operation: str, options: set[str]) -> Iterator[str]:
    try:
        model = _service(service)
    except UnknownServiceError:
        yield f"AWS has no service {service}"
        return
    found = {xform_name(name, "-"): name for name in model.operation_names}.get(operation)
    if found is None:
        yield f"{service} cannot {operation}"
        return
    shape = model.operation_model(found).input_shape
    members = {xform_name(name, "-") for name in (shape.members if shape else ())}
    for option in options - members:
        if option.removeprefix("no-") not in members:
            yield f"{service} {operation} has no --{option}"


@cache
def _service(name: str) -> Any:
    return get_session().get_service_model(name)


def _by_phase(value: str) -> Iterator[str]:
    """With a placeholder at its end or alone anything may be meant."""
    if re.fullmatch(r"\$[A-Z_]+", value):
        yield from (name for names in plan().aws.values() for name in names)
    for phase in PHASES:
        yield re.sub(r"\$\{?PHASE\}?", phase, value)


def _bucket(word: str) -> str:
    return word.removeprefix("s3://").partition("/")[0] if word.startswith("s3://") else ""


def _bucket_is_there(name: str) -> bool:
    """By its form: the account and the region are the reader's."""
    form = re.sub(r"\\\$\\?\{?[A-Z]+\\?\}?", r"[a-z0-9-]+", re.escape(name))
    return any(re.fullmatch(form, found) for found in plan().aws["s3.bucket"])


@cache
def recipes() -> Mapping[str, str]:
    """What each target of the Makefile runs."""
    text = (ROOT / "Makefile").read_text()
    found = re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n)*)", text, re.MULTILINE)
    return {name: recipe.replace("$(WHERE)", "$(PHASE) $(REGION)") for name, recipe in found}


def make_problems(words: Sequence[str]) -> Iterator[str]:
    targets = [word for word in words[1:] if "=" not in word]
    unknown = [target for target in targets if target not in recipes()]
    yield from (f"`{' '.join(words)}`: no target {target}" for target in unknown)
    for variable in (word.partition("=")[0] for word in words[1:] if "=" in word):
        if not unknown and not any(f"$({variable})" in recipes()[target] for target in targets):
            yield f"`{' '.join(words)}`: {' '.join(targets)} takes no {variable}"


@cache
def flags() -> Mapping[str, FlagSpec]:
    """Every flag that is declared."""
    specs = [FlagSpec(KILL_ALL, False, ""), MCP_SWITCH, *RETRIEVAL_FLAGS]
    specs += [FlagSpec(name, True, "") for name in SWITCHES]
    specs += [spec for pack in PACKS for spec in (kill_switch(pack.name), *pack.flags)]
    return {spec.name: spec for spec in specs}


def trellis_problems(words: Sequence[str]) -> Iterator[str]:
    command: Any = typer.main.get_command(cli)
    rest = list(words[1:])
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            yield f"there is no `{' '.join(words)}`"
            return
        command = command.commands[rest.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    yield from (
        f"`{' '.join(words)}`: no {word}" for word in rest if word[:2] == "--" and word.partition("=")[0] not in known
    )
    if list(words[1:3]) == ["flags", "set"] and len(words) > 4:
        yield from _flag_problems(words[3], words[4])


def _flag_problems(name: str, value: str) -> Iterator[str]:
    if "$" in name:
        return
    if name not in flags():
        yield f"there is no flag {name}"
    elif "$" not in value:
        try:
            parsed(value, flags()[name])
        except TrellisError as error:
            yield error.detail


def problems(calls: Sequence[Sequence[str]]) -> list[str]:
    """Of all the calls of one page."""
    made = names_made(calls)
    found: list[str] = []
    for words in calls:
        match words[0]:
            case "kubectl":
                found += kubectl_problems(words)
            case "aws":
                found += aws_problems(words, made)
            case "make":
                found += make_problems(words)
            case "trellis":
                found += trellis_problems(words)
    return found
