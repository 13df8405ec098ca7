"""Models that we serve ourselves: vLLM, and the GPUs beneath it.

Names are those of vLLM's V1 engine and of dcgm-exporter's default counters.
"""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, board, heatmap, label_variable, series, stat, table
from dashboards.src.promql import quantile, rate, share
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-vllm"
_MODEL: Final = '{model_name=~"$model"}'
_BY_MODEL: Final = "{{model_name}}"
_GPU: Final = "{{node}} gpu {{gpu}}"


def used(phase: Phase) -> bool:
    """Where there are GPU nodes."""
    return asks(phase, "vllm")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: vLLM and GPU",
        "Whether our own models answer in time, and what holds them up: queue, KV cache, or the GPU itself.",
        tags=["models", "platform"],
        variables=[label_variable("model", "model_name", "vllm:num_requests_running")],
        rows=[
            Row("Is it healthy", [*_answering(), *_loaded()]),
            Row("Requests", _requests()),
            Row("Time", _times()),
            Row("Tokens and caches", _tokens()),
            Row("GPU", [*_gpu_use(), *_gpu_state()]),
        ],
    )


def _answering() -> list[Panel]:
    return [
        stat(
            "Servers up",
            "Share of vLLM servers that answer Prometheus. With none, the model route falls back to the next "
            "provider: see trellis-model for what that costs.",
            "percentunit",
            Query('sum(up{job="vllm"}) / count(up{job="vllm"})'),
            steps=[(0, "red"), (1, "green")],
        ),
        stat(
            "First token, p99",
            "99th percentile of the time to the first token. Users wait this long before anything shows. When it "
            "grows with the queue, add replicas; without a queue, prompts have grown.",
            "s",
            Query(quantile(0.99, "vllm:time_to_first_token_seconds", where=_MODEL)),
            steps=[(0, "green"), (1, "yellow"), (3, "red")],
        ),
        stat(
            "Waiting requests",
            "Requests that no GPU has begun. More than a moment above 0: the GPUs are full. See KV cache in use.",
            "short",
            Query(f"sum(vllm:num_requests_waiting{_MODEL})"),
            steps=[(0, "green"), (5, "yellow"), (50, "red")],
        ),
    ]


def _loaded() -> list[Panel]:
    return [
        stat(
            "KV cache",
            "Use of the fullest server's KV cache. Near 100 %, requests wait or are set back (preempted).",
            "percentunit",
            Query(f"max(vllm:kv_cache_usage_perc{_MODEL})"),
            steps=[(0, "green"), (0.8, "yellow"), (0.95, "red")],
        ),
        stat(
            "GPU use",
            "Mean share of time in which the GPUs had work. Low while requests wait: the server is stuck, see its log.",
            "percent",
            Query("avg(DCGM_FI_DEV_GPU_UTIL)"),
            steps=[(0, "blue"), (20, "green"), (95, "yellow")],
        ),
        stat(
            "GPUs with an XID error",
            "GPUs whose driver reported an error and whose last code is not 0. Codes 48, 63, 64, 74, 79, 94 and 95 "
            "mean a broken card or link: drain the node. The code is in GPUs now.",
            "short",
            Query("sum(DCGM_FI_DEV_XID_ERRORS > bool 0)"),
            steps=[(0, "green"), (1, "red")],
        ),
    ]


def _requests() -> list[Panel]:
    return [
        series(
            "Running and waiting",
            "Requests in a batch, and those that wait for a place. KEDA adds replicas while requests wait: see "
            "trellis-kubernetes.",
            "short",
            Query(f"sum by (model_name) (vllm:num_requests_running{_MODEL})", f"{_BY_MODEL} running"),
            Query(f"sum by (model_name) (vllm:num_requests_waiting{_MODEL})", f"{_BY_MODEL} waiting"),
            width=12,
        ),
        series(
            "Requests by how they ended",
            "Finished requests a second. 'length' ran into the limit of tokens: answers are cut. 'abort': the client "
            "left, or its timeout passed. Those set back lost their place in the KV cache and begin again.",
            "reqps",
            Query(
                rate("vllm:request_success_total", "finished_reason", where=_MODEL),
                "{{finished_reason}}",
            ),
            Query(rate("vllm:num_preemptions_total", where=_MODEL), "set back"),
            stacked=True,
            width=12,
        ),
    ]


def _times() -> list[Panel]:
    return [
        series(
            "Time to the first token",
            "Half of the requests and the slowest 1 %. It holds the queue and the reading of the prompt: compare Where "
            "the time goes.",
            "s",
            *_percentiles("vllm:time_to_first_token_seconds"),
        ),
        series(
            "Time between tokens",
            "Half of the tokens and the slowest 1 %. Over 50 ms, reading feels slow; it grows with the batches.",
            "s",
            *_percentiles("vllm:inter_token_latency_seconds"),
        ),
        series(
            "Where the time goes",
            "99th percentile of each part of a request: in the queue, reading the prompt (prefill), writing the "
            "answer (decode).",
            "s",
            *(
                Query(quantile(0.99, f"vllm:request_{part}_time_seconds", where=_MODEL), part)
                for part in ("queue", "prefill", "decode")
            ),
        ),
        heatmap(
            "Whole requests",
            "How long whole requests took. A second band above the first is a group of long prompts or of requests "
            "that were set back.",
            "s",
            Query(rate("vllm:e2e_request_latency_seconds_bucket", "le", where=_MODEL)),
            width=24,
        ),
    ]


def _percentiles(metric: str) -> list[Query]:
    return [
        Query(quantile(part, metric, "model_name", where=_MODEL), f"{_BY_MODEL} {name}")
        for part, name in ((0.5, "p50"), (0.99, "p99"))
    ]


def _tokens() -> list[Panel]:
    hits, queries = (
        rate(f"vllm:prefix_cache_{what}_total", "model_name", where=_MODEL) for what in ("hits", "queries")
    )
    return [
        series(
            "Tokens a second",
            "Tokens read and written. Written tokens at a ceiling while requests wait is the GPUs' limit.",
            "short",
            Query(rate("vllm:prompt_tokens_total", "model_name", where=_MODEL), f"{_BY_MODEL} read"),
            Query(rate("vllm:generation_tokens_total", "model_name", where=_MODEL), f"{_BY_MODEL} written"),
        ),
        series(
            "KV cache in use",
            "Share of each server's KV cache. Requests wait at 100 %: shorten prompts, or add replicas.",
            "percentunit",
            Query(f"max by (instance) (vllm:kv_cache_usage_perc{_MODEL})", "{{instance}}"),
            maximum=1,
        ),
        series(
            "Prefix cache hits",
            "Share of prompt tokens that did not have to be read again. It falls when prompts begin with something "
            "that changes, such as the time.",
            "percentunit",
            Query(share(hits, queries), _BY_MODEL),
            maximum=1,
        ),
    ]


def _gpu_use() -> list[Panel]:
    return [
        series(
            "GPU in use",
            "Share of time in which each GPU had work.",
            "percent",
            Query("max by (node, gpu) (DCGM_FI_DEV_GPU_UTIL)", _GPU),
            maximum=100,
        ),
        series(
            "GPU memory",
            "Share of each GPU's memory in use. vLLM takes its share at the start (gpu-memory-utilization), so that "
            "it stays level; growth is something else on the card.",
            "percentunit",
            Query(
                "max by (node, gpu) (DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE))",
                _GPU,
            ),
            maximum=1,
        ),
        series(
            "Temperature",
            "Of each GPU. Over 85 °C it slows itself down: compare the clock in GPUs now.",
            "celsius",
            Query("max by (node, gpu) (DCGM_FI_DEV_GPU_TEMP)", _GPU),
        ),
    ]


def _gpu_state() -> list[Panel]:
    return [
        series(
            "Power",
            "Of each GPU. Much below the others at the same use: it is throttled.",
            "watt",
            Query("max by (node, gpu) (DCGM_FI_DEV_POWER_USAGE)", _GPU),
        ),
        table(
            "GPUs now",
            "Each card: clock, energy, memory that was remapped because it failed, and the last XID code (0: none). "
            "Remapped rows that grow are a card at its end.",
            Query("max by (node, gpu, modelName) (DCGM_FI_DEV_SM_CLOCK)", "clock, MHz"),
            Query("max by (node, gpu) (DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS)", "remapped rows"),
            Query("max by (node, gpu) (DCGM_FI_DEV_XID_ERRORS)", "last XID"),
            columns={
                "node": "string",
                "gpu": "string",
                "modelName": "string",
                "clock, MHz": "short",
                "remapped rows": "short",
                "last XID": "none",
            },
            width=16,
        ),
    ]
