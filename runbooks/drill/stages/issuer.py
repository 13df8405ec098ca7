"""In the place of cert-manager, whose real definitions the API server holds: what an Ingress asks for is issued, and
renewed 30 days before its end; an issuer that cannot leaves a challenge that waits.

Certificates are real ones, signed by a key of the issuer's own. Which ways there are to prove a domain is not tried.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runbooks.drill.stages.controller import reconciling
from tests.support.kubernetes import Kubernetes, Object

LASTS: Final = timedelta(days=90)
EARLY: Final = timedelta(days=30)
ASKS: Final = "cert-manager.io/cluster-issuer"
"""The annotation of an Ingress that names its issuer."""
WAITS: Final = "Waiting for HTTP-01 challenge propagation: wrong status code '404', expected '200'"
_EVERY_S: Final = 0.5
_ACME: Final = "https://acme.example/directory"


@dataclass
class Issuer:
    """For one Ingress. `stuck`: names of issuers that cannot prove the domain now."""

    api: Kubernetes
    ingress: str
    folder: Path
    stuck: set[str] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the block ends. What goes wrong is in the folder."""
        with reconciling(self.once, _EVERY_S, self.folder / "issuer.log"):
            yield

    def once(self) -> None:
        """Looks once, and does what is to be done."""
        asked = self.api.send("GET", self.ingress)
        (tls,) = asked["spec"]["tls"]
        space, name = asked["metadata"]["namespace"], tls["secretName"]
        issuer, host = asked["metadata"]["annotations"][ASKS], tls["hosts"][0]
        wanted = self.api.apply(_certificate(space, name, host, issuer))
        held = self._held(space, name)
        if held is None or _issued_by(held) != issuer or held.not_valid_after_utc - datetime.now(UTC) < EARLY:
            if issuer in self.stuck:
                self.api.apply(_challenge(space, name, host, issuer))
                self._wait(space, name)
            else:
                self.put(space, name, host, issuer, LASTS)
                held = self._held(space, name)
        self._tell(wanted, held, ready=held is not None and _issued_by(held) == issuer)

    def put(self, space: str, name: str, host: str, issuer: str, lasts: timedelta) -> None:
        """A certificate in its Secret that ends after `lasts`; no challenge waits any more."""
        made = _signed(host, issuer, lasts)
        body = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": made}
        self.api.apply({**body, "metadata": {"name": name, "namespace": space}})
        path = f"/apis/acme.cert-manager.io/v1/namespaces/{space}/challenges"
        for challenge in self.api.items(path):
            self.api.delete(f"{path}/{challenge['metadata']['name']}")

    def _held(self, space: str, name: str) -> x509.Certificate | None:
        secret = self.api.get(f"/api/v1/namespaces/{space}/secrets/{name}")
        return x509.load_pem_x509_certificate(b64decode(secret["data"]["tls.crt"])) if secret else None

    def _wait(self, space: str, name: str) -> None:
        status = {"state": "pending", "presented": True, "processing": True, "reason": WAITS}
        self.api.merge(f"/apis/acme.cert-manager.io/v1/namespaces/{space}/challenges/{name}/status", {"status": status})

    def _tell(self, certificate: Object, held: x509.Certificate | None, *, ready: bool) -> None:
        now = datetime.now(UTC)
        well = ready and held is not None and held.not_valid_after_utc > now
        condition = {
            "type": "Ready",
            "status": "True" if well else "False",
            "reason": "Ready" if well else "Issuing",
            "message": "Certificate is up to date and has not expired" if well else WAITS,
            "lastTransitionTime": _time(now),
        }
        status: dict[str, Any] = {"conditions": [condition]}
        if held is not None:
            ends = held.not_valid_after_utc
            status |= {"notAfter": _time(ends), "renewalTime": _time(ends - EARLY)}
        self.api.merge(f"{self.api.path(certificate)}/status", {"status": status})


def cluster_issuer(name: str) -> Object:
    """As a cluster's user makes one."""
    solver = {"http01": {"ingress": {"ingressClassName": "nginx"}}}
    acme = {"server": _ACME, "privateKeySecretRef": {"name": name}, "solvers": [solver]}
    meta = {"name": name}
    return {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": meta, "spec": {"acme": acme}}


def _certificate(space: str, name: str, host: str, issuer: str) -> Object:
    spec = {"secretName": name, "dnsNames": [host], "issuerRef": _reference(issuer)}
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": meta, "spec": spec}


def _challenge(space: str, name: str, host: str, issuer: str) -> Object:
    spec = {
        "authorizationURL": f"{_ACME}/authorization",
        "url": f"{_ACME}/challenge",
        "dnsName": host,
        "issuerRef": _reference(issuer),
        "key": "key",
        "token": "token",
        "type": "HTTP-01",
        "solver": {"http01": {"ingress": {"ingressClassName": "nginx"}}},
    }
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "acme.cert-manager.io/v1", "kind": "Challenge", "metadata": meta, "spec": spec}


def _reference(issuer: str) -> Mapping[str, str]:
    return {"name": issuer, "kind": "ClusterIssuer", "group": "cert-manager.io"}


def _signed(host: str, issuer: str, lasts: timedelta) -> Mapping[str, str]:
    """The data of a Secret: the certificate and its key."""
    key, signer, now = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
        datetime.now(UTC),
    )
    begins = now - (LASTS - lasts) - timedelta(minutes=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(host))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, form, none)
    public = made.public_bytes(serialization.Encoding.PEM)
    return {"tls.crt": b64encode(public).decode(), "tls.key": b64encode(private).decode()}


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _issued_by(certificate: x509.Certificate) -> str:
    return str(certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
