"""The table of prices: complete for what phases name, honest about what was not looked up."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from infra.errors import InfraError
from infra.phases import PHASES, Phase
from infra.prices import FILE, Prices, load_prices
from infra.regions import REGIONS


@pytest.fixture(scope="module")
def prices() -> Prices:
    return load_prices()


def test_every_price_names_a_source_and_what_was_not_read_in_a_list_is_an_estimate(prices: Prices) -> None:
    unread = {"memory", "scaled"}
    for item, by_region in prices.items.items():
        for region, price in by_region.items():
            assert price.estimate == (price.source in unread), (item, region)


def test_every_region_has_a_price_of_everything_but_machines(prices: Prices) -> None:
    for region in REGIONS:
        for item in prices.items:
            if not item.startswith(("instance/", "spot/")):
                assert prices.of(item, region).usd > 0


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_every_machine_of_a_phase_is_described_and_sold_in_its_regions(prices: Prices, phase: Phase) -> None:
    nodes = phase.nodes
    kinds = [(phase.instance,)] if phase.instance else []
    if nodes is not None:
        kinds += [(nodes.bootstrap,), nodes.general, nodes.gpu]
    for region in phase.fleet.regions:
        for names in kinds:
            assert bool(prices.offered(region, tuple(filter(None, names)))) == bool(names)


def test_a_machine_that_may_be_spot_costs_less_so(prices: Prices) -> None:
    for item, by_region in prices.items.items():
        if item.startswith("spot/"):
            for region, price in by_region.items():
                assert price.usd < prices.of(f"instance/{item.removeprefix('spot/')}", region).usd


def test_a_region_without_the_machine_is_refused_by_name(prices: Prices) -> None:
    with pytest.raises(InfraError, match=r"eu-west-1 does not offer g6\.xlarge"):
        prices.offered("eu-west-1", ("g6.xlarge",))
    assert prices.offered("eu-west-1", ("g6.xlarge", "g5.xlarge")) == ("g5.xlarge",)


def test_what_has_no_price_is_refused_and_never_guessed(prices: Prices) -> None:
    with pytest.raises(InfraError, match=r"no price of 'rds/db\.x9\.large' in eu-central-1"):
        prices.of("rds/db.x9.large", "eu-central-1")
    with pytest.raises(InfraError, match=r"'m99\.large' is not in infra/prices\.yaml"):
        prices.instance("m99.large")
    assert replace(prices, items={}).offered("eu-central-1", ()) == ()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("prices", "nat", "us-east-1", "source"), "hearsay", "names the source 'hearsay'"),
        (("prices", "nat", "us-east-1", "usd"), 0, "costs 0"),
        (("assumptions", "scales"), 1, "scales"),
        (("instances", "t4g.small", "colour"), "red", "colour"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, place: tuple[str, ...], value: object, said: str) -> None:
    table = yaml.safe_load(FILE.read_text())
    *way, last = place
    part = table
    for key in way:
        part = part[key]
    part[last] = value
    file = tmp_path / "prices.yaml"
    file.write_text(yaml.safe_dump(table))
    with pytest.raises(InfraError, match=said):
        load_prices(file)
