"""What a team says of a stack in `infra/stacks/Pulumi.<stack>.yaml`: the only reader of Pulumi's configuration.

A layer's keys are the fields of its dataclass, in camel case under `trellis:`. An unknown key, a missing one or a wrong
value is an error that names the key, before any resource is asked for. Sizes are not here: the phase says them. A field
of type `Secret` is set with `--secret`: its file holds it encrypted, and it is marked all the way.
"""

import difflib
import hashlib
import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final, TypeVar, get_args, get_origin

import pulumi
from pulumi.runtime import config

from infra.errors import InfraError
from infra.layout import Layer, StackName, before
from infra.phases import PHASES, Phase, PhaseName

NAMESPACE: Final = "trellis"
_ACCOUNT: Final = re.compile(r"\d{12}")
_DOMAIN: Final = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
_ROLE: Final = re.compile(r"arn:aws:iam::\d{12}:role/[\w+=,.@/-]+")
_ZONE: Final = re.compile(r"Z[A-Z0-9]{5,31}")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_IMAGE: Final = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_RELEASE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_REPOSITORY: Final = re.compile(r"https://[^\s@]+")
_COLOURS: Final = ("blue", "green")

Given = TypeVar("Given", bound="Base")


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is shown nowhere."""

    text: str = field(repr=False)

    def output(self) -> pulumi.Output[str]:
        """Marked secret: it is encrypted in a stack's state, too."""
        return pulumi.Output.secret(self.text)

    @property
    def version(self) -> int:
        """Another number for another text, by which a provider that keeps no text sees a new one. 16 bits of a hash:
        too few to find the text by."""
        return 1 + int.from_bytes(hashlib.sha256(self.text.encode()).digest()[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every stack is told. `extra_tags` go on every resource beside our own."""

    extra_tags: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name, pattern, wanted in _PATTERNS:
            value = getattr(self, name, None)
            if value is not None and not pattern.fullmatch(value):
                raise InfraError(f"{key(name)} is '{value}': it has to be {wanted}.")
        _check_network(getattr(self, "cidr", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Base):
    """A stack in AWS. `account` is the one that it may be made in; `alarm_email` hears of the budget. `zone`: id of the
    Route 53 hosted zone that answers for the domain; it is the team's, and no stack makes or deletes it."""

    account: str
    alarm_email: str
    domain: str
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Single(Account):
    """The PoC on one instance. `release` is the tag or commit of this repository that it runs; `repository` where
    it is cloned from."""

    cidr: str = "10.10.0.0/16"
    release: str
    repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(Account):
    """What a region's cluster stands on. `cidr`: of its network, different in each region. `admins`: ARNs of roles that
    administer the cluster. `operators`: networks that its API server also answers on a public address; with none, it
    is reached from inside the network alone. `database_password`: of the owner of a database with replicas, here or
    in other regions, which AWS does not manage; asked of its first region only."""

    cidr: str
    admins: tuple[str, ...]
    operators: tuple[str, ...] = ()
    database_password: Secret | None = None

    def __post_init__(self) -> None:
        Account.__post_init__(self)
        for network in self.operators:
            _check_operators(network)
        for admin in self.admins or ("",):
            if not _ROLE.fullmatch(admin):
                raise InfraError(
                    f"{key('admins')} has '{admin}': it has to be ARNs of roles, arn:aws:iam::<account>:role/<name>; "
                    "one of them has to deploy the workloads."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workloads(Base):
    """What runs in a cluster, whichever it is.

    `image`: of the app, by digest. `active`: the colour that users reach, blue or green; `other_image`: of the other
    colour while a release is tried. `mtls`: mutual TLS between our services. `model_url` and `model_name`: the hosted
    models' endpoint, where the phase has no GPU nodes or falls back; their key is a secret of the cluster's store.
    """

    image: str
    other_image: str | None = None
    active: str = "blue"
    mtls: bool = False
    model_url: str
    model_name: str

    def __post_init__(self) -> None:
        Base.__post_init__(self)
        if self.active not in _COLOURS:
            raise InfraError(f"{key('active')} is '{self.active}': it has to be blue or green.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Apps(Workloads):
    """The workloads of a region's cell. `account`: the one that its infra stack is in. `spot`: nodes may also be spot
    instances, which cost less and may be taken away within two minutes; never those with GPUs."""

    account: str
    domain: str
    spot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(Workloads):
    """The workloads of a phase on a cluster that is there: `context` of the kubeconfig (its current one where none is
    given), `storage_class` of volumes (the cluster's default), `host` that the ingress answers to, `issuer`: a
    ClusterIssuer of cert-manager that makes its certificate (with none, it is the Secret `trellis-tls`, by you).
    `secrets`: the Secret with every password, made before (infra/secrets.py)."""

    phase: str
    context: str | None = None
    storage_class: str | None = None
    host: str = "trellis.localhost"
    issuer: str | None = None
    secrets: str = "trellis-secrets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge(Account):
    """What joins the regions. `accelerator`: Global Accelerator instead of latency records. `evacuated`: regions that
    get no users for now; they stay as they are, and the setting taken away brings the users back."""

    accelerator: bool = False
    evacuated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack with all that is said of it."""

    name: StackName
    phase: Phase
    given: Base

    @property
    def region(self) -> str:
        return self.name.region


KINDS: Final[Mapping[Layer, type[Base]]] = {
    Layer.SINGLE: Single,
    Layer.INFRA: Cell,
    Layer.APPS: Apps,
    Layer.EDGE: Edge,
    Layer.CLUSTER: Cluster,
}
_PATTERNS: Final = (
    ("account", _ACCOUNT, "the 12 digits of an AWS account"),
    ("domain", _DOMAIN, "a domain of yours, for example agents.example.com"),
    ("zone", _ZONE, "the id of a Route 53 hosted zone, for example Z0123456789ABCDEFGHIJ"),
    ("alarm_email", _EMAIL, "an address that somebody reads"),
    ("image", _IMAGE, "an image by its digest: name@sha256:..."),
    ("other_image", _IMAGE, "an image by its digest: name@sha256:..."),
    ("release", _RELEASE, "a tag or a commit"),
    ("repository", _REPOSITORY, "an address that can be cloned without a password: https://..."),
)


def load(stack: str) -> Stack:
    """Raises InfraError: an unknown stack, key, missing key or wrong value."""
    name = StackName.parse(stack)
    texts = _configured()
    secret = frozenset(key for key in texts if config.is_config_secret(key))
    given = read(KINDS[name.layer], texts, secret)
    phase = PHASES[name.phase] if name.phase else _phase(given)
    for secret_field in secrets_of(name):
        if getattr(given, secret_field) is None:
            raise InfraError(unset(secret_field, stack))
    return Stack(name, phase, given)


def secrets_of(stack: StackName) -> tuple[str, ...]:
    """Fields of a stack's settings that it cannot do without, and that are never in plain text."""
    phase = PHASES[stack.phase] if stack.phase else None
    # AWS manages no password of a database with replicas, or that other regions join: the writer's stack is told it.
    replicated = phase is not None and phase.stores.read_replicas > 0
    return ("database_password",) if replicated and stack.layer is Layer.INFRA and not before(stack) else ()


def unset(name: str, stack: str) -> str:
    return f"{key(name)} is a secret that is not set: `pulumi config set --secret {key(name)} --stack {stack}`."


def read(kind: type[Given], texts: Mapping[str, str], secret: Collection[str] = ()) -> Given:
    """The settings of one layer.

    Args:
        texts: by full key; those of other namespaces are not ours.
        secret: those of the keys whose values are encrypted.
    """
    prefix = f"{NAMESPACE}:"
    ours = {key.removeprefix(prefix): text for key, text in texts.items() if key.startswith(prefix)}
    known = {_camel(one.name): one for one in fields(kind)}
    for key in sorted(ours.keys() - known.keys()):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(sorted(known))}."
        raise InfraError(f"{prefix}{key} is not a setting of this stack: {hint}")
    return kind(
        **{
            one.name: _value(one, ours[key], encrypted=prefix + key in secret)
            for key, one in known.items()
            if _has(ours, key, one)
        }
    )


def _has(ours: Mapping[str, str], key: str, wanted: Field[Any]) -> bool:
    if key in ours:
        return True
    if wanted.default is MISSING:
        raise InfraError(f"{NAMESPACE}:{key} is not set: `pulumi config set {NAMESPACE}:{key} <value>`.")
    return False


def _configured() -> Mapping[str, str]:
    return {**config.get_config_env(), **config.CONFIG.get()}


def _phase(given: Base) -> Phase:
    assert isinstance(given, Cluster)
    try:
        return PHASES[PhaseName(given.phase)]
    except ValueError:
        raise InfraError(f"{key('phase')} is '{given.phase}': there are {', '.join(PHASES)}.") from None


def _value(wanted: Field[Any], text: str, *, encrypted: bool) -> Any:
    kinds = get_args(wanted.type) or (wanted.type,)
    if Secret in kinds:
        if not encrypted:
            raise InfraError(f"{key(wanted.name)} is a secret in plain text: set it again with --secret, as a new one.")
        return Secret(text)
    if encrypted:
        raise InfraError(f"{key(wanted.name)} is encrypted and is no secret: set it without --secret.")
    if bool in kinds:
        if text not in ("true", "false"):
            raise InfraError(f"{key(wanted.name)} is '{text}': it has to be true or false.")
        return text == "true"
    if get_origin(wanted.type) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if wanted.name == "extra_tags":
        return dict(_tag(part) for part in text.split(",") if part.strip())
    return text


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.strip().partition("=")
    if not (name and equals and value):
        raise InfraError(f"{key('extra_tags')} has '{text.strip()}': it has to be name=value, comma-separated.")
    return name, value


def _check_network(cidr: str | None) -> None:
    if cidr is None:
        return
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError:
        raise InfraError(f"{key('cidr')} is '{cidr}': it has to be a network such as 10.20.0.0/16.") from None
    if not network.is_private or not 16 <= network.prefixlen <= 18:
        raise InfraError(f"{key('cidr')} is '{cidr}': it has to be a private network of /16 to /18.")


def _check_operators(network: str) -> None:
    try:
        found = ipaddress.IPv4Network(network)
    except ValueError:
        raise InfraError(
            f"{key('operators')} has '{network}': it has to be a network such as 203.0.113.0/24."
        ) from None
    if found.prefixlen == 0:
        raise InfraError(f"{key('operators')} names the whole internet: name the networks that you work from.")


def key(name: str) -> str:
    """Of a field, as it is written in a stack's file."""
    return f"{NAMESPACE}:{_camel(name)}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
