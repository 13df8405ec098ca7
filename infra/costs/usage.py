"""What only use decides: traffic, logs, tokens. Reckoned from the leads that the phase carries."""

from collections.abc import Iterable

from infra.costs.line import Line, Part, Reckoner
from infra.layout import Layer
from infra.recording import Graph


def lines(graph: Graph, by: Reckoner, layer: Layer) -> Iterable[Line]:
    """Once for a region: traffic with the stack that has the network, tokens with the one that calls models."""
    if layer in (Layer.SINGLE, Layer.INFRA):
        yield from _traffic(graph, by)
    if layer in (Layer.SINGLE, Layer.APPS):
        yield from _tokens(by)


def _traffic(graph: Graph, by: Reckoner) -> Iterable[Line]:
    lead = by.prices.assumptions.lead
    yield _used(by, "to users", "traffic-out", by.of_leads(lead.out_mb))
    if graph.of("aws:ec2/natGateway:NatGateway"):
        yield _used(by, "through NAT, of leads", "nat-traffic", by.of_leads(lead.nat_mb))
        yield _used(by, "between zones", "traffic-zones", by.of_leads(lead.zones_mb))
    if graph.of("aws:ec2/flowLog:FlowLog"):
        yield _used(by, "records of flows", "delivered-logs", by.of_leads(lead.logs_mb))
    if len(by.phase.fleet.regions) > 1:
        yield _used(by, "to other regions", "traffic-regions", by.of_leads(lead.regions_mb))
    if graph.of("aws:cloudwatch/logGroup:LogGroup"):
        gb = by.of_leads(lead.logs_mb)
        yield by.line(Part.TELEMETRY, "logs of the control plane and of stores", "logs", gb, estimate=True)


def _used(by: Reckoner, what: str, item: str, gb: float) -> Line:
    return by.line(Part.NETWORK, f"traffic {what}", item, gb, estimate=True)


def _tokens(by: Reckoner) -> Iterable[Line]:
    assumed, leads = by.prices.assumptions, by.phase.load.leads_per_month
    share = assumed.hosted_share if by.phase.models is not None else 1.0
    for item, each in (
        ("model-input", assumed.lead.model_input_tokens),
        ("model-output", assumed.lead.model_output_tokens),
    ):
        yield by.line(Part.MODELS, item.replace("-", " "), item, leads * each * share / 1e6, estimate=True)
