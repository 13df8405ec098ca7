"""A network's subnets: in it, apart, and large enough for a pod an address each."""

import ipaddress
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.aws.network import NetworkArgs
from infra.errors import InfraError
from tests.support.examples import examples

ZONES = ("a", "b", "c")


def arguments(cidr: str, nats: int = 1) -> NetworkArgs:
    return NetworkArgs(cidr=cidr, zones=ZONES, nats=nats, endpoints=(), flow_logs="arn:aws:s3:::logs", cluster="c")


@given(second=st.integers(0, 255), bits=st.integers(16, 18))
@settings(max_examples=examples(60), deadline=None)
def test_subnets_are_in_their_network_and_apart_from_each_other(second: int, bits: int) -> None:
    whole = ipaddress.ip_network(f"10.{second}.0.0/{bits}", strict=False)
    args = arguments(str(whole))
    subnets = [ipaddress.ip_network(part) for part in (*args.public, *args.private)]
    assert len(subnets) == 2 * len(ZONES)
    assert all(part.version == 4 and part.subnet_of(whole) for part in subnets)
    assert not any(one.overlaps(other) for one, other in combinations(subnets, 2))
    # A load balancer asks for 8 free addresses; prefixes of 16 are handed to nodes.
    assert all(ipaddress.ip_network(part).num_addresses >= 64 for part in args.public)
    assert all(ipaddress.ip_network(part).num_addresses >= 2048 for part in args.private)


def test_a_number_of_nat_gateways_that_leaves_a_zone_out_is_refused() -> None:
    with pytest.raises(InfraError, match=r"one a zone \(3\): not 2"):
        arguments("10.0.0.0/16", nats=2)
