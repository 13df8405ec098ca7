"""vLLM and the GPUs that it runs on."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from alerts.expressions import total
from alerts.model import Alert, Group, Severity, Site, Team

_ticket: Final = partial(Alert, severity=Severity.TICKET, team=Team.MODELS, dashboard="trellis-vllm")
# XID errors that an application makes by itself (NVIDIA's catalogue): the GPU is well.
_OF_APPLICATIONS: Final = "13|31|43|45"
_WAITING_SHARE: Final = 0.02


def vllm(site: Site) -> Sequence[Group]:
    return (Group("vllm", [*_answering(site), *_full(site)]),) if site.phase.fleet.gpu_nodes else ()


def gpu(site: Site) -> Sequence[Group]:
    return (Group("gpu", list(_cards(site))),) if site.phase.fleet.gpu_nodes else ()


def _answering(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="VllmDown",
        expr='max(up{job="vllm"}) == 0',
        hold_s=300,
        summary="No vLLM answers",
        description="Calls go to the provider that is paid by the token. Look at the GPU nodes: are they there?",
    )
    requests = 'http_requests_total{job="vllm"}'
    failed = 'http_requests_total{job="vllm", status="5xx"}'
    yield _ticket(
        name="VllmErrors",
        expr=f"{total(site, failed, 300)} / {total(site, requests, 300)} > 0.02 and {total(site, failed, 300)} > 5",
        hold_s=300,
        summary="{{ $value | humanizePercentage }} of the calls to vLLM fail",
        description="They are tried again elsewhere: answers are slower and dearer. Its log tells why.",
    )
    first = f"sum by (model_name, le) (rate(vllm:time_to_first_token_seconds_bucket[{site.pace(300)}]))"
    yield _ticket(
        name="VllmFirstTokenSlow",
        expr=f"histogram_quantile(0.95, {first}) > {site.phase.targets.answer_p50_s:g}",
        hold_s=600,
        summary="{{ $labels.model_name }} takes {{ $value | humanizeDuration }} to its first token (95th percentile)",
        description="That is as long as half of all answers may take in whole. Look what waits, and at long prompts.",
    )


def _full(site: Site) -> Iterator[Alert]:
    line = round(site.phase.load.concurrent_conversations * _WAITING_SHARE)
    yield _ticket(
        name="VllmWaiting",
        expr=f"sum by (model_name) (vllm:num_requests_waiting) > {line}",
        hold_s=300,
        summary="{{ $value }} requests wait for {{ $labels.model_name }}",
        description="There are more calls than it can batch. Look whether more GPU nodes are coming, or at their most.",
    )
    yield _ticket(
        name="VllmCacheFull",
        expr="max by (instance, model_name) (vllm:kv_cache_usage_perc) > 0.95",
        hold_s=600,
        summary="The KV cache of {{ $labels.instance }} is {{ $value | humanizePercentage }} full",
        description="Requests are put off and done again. Prompts are too long, or there are too few replicas.",
    )


def _cards(site: Site) -> Iterator[Alert]:
    hour = site.pace(3600)
    yield _ticket(
        name="GpuXid",
        expr=f'max by (node, gpu, err_code) (DCGM_FI_DEV_XID_ERRORS{{err_code!~"{_OF_APPLICATIONS}"}}) > 0',
        hold_s=0,
        summary="GPU {{ $labels.gpu }} of {{ $labels.node }} reports XID {{ $labels.err_code }}",
        description="The driver or the card failed. It stays until the exporter restarts: drain the node, replace it.",
    )
    yield _ticket(
        name="GpuHot",
        expr="max by (node, gpu) (DCGM_FI_DEV_GPU_TEMP) > 85",
        hold_s=600,
        summary="GPU {{ $labels.gpu }} of {{ $labels.node }} is at {{ $value }} °C",
        description="It slows itself down, then it stops. The cooling of that host fails: replace the node.",
    )
    worn = f"increase(DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS[{hour}])"
    yield _ticket(
        name="GpuMemoryErrors",
        expr=f"max by (node, gpu) ({worn}) > 0 or max by (node, gpu) (DCGM_FI_DEV_ROW_REMAP_FAILURE) > 0",
        hold_s=0,
        summary="The memory of GPU {{ $labels.gpu }} of {{ $labels.node }} has errors that ECC cannot correct",
        description="Calls on it fail, and it wears out. Drain the node and replace it.",
    )
    yield _ticket(
        name="GpuMemoryFull",
        expr=("max by (node, gpu) (DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)) > 0.98"),
        hold_s=900,
        summary="{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.gpu }} on {{ $labels.node }} taken",
        description="The next allocation fails, and vLLM with it. Lower its share of the memory.",
    )
