"""vLLM and GPUs."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "VllmDown",
        {"severity": "ticket", "team": "models"},
        summary="No vLLM answers",
        description="Calls go to the provider that is paid by the token. Look at the GPU nodes: are they there?",
        dashboard="trellis-vllm",
        at="15m",
        fires={'up{job="vllm",instance="a"}': "1x5 0x30", 'up{job="vllm",instance="b"}': "1x6 0x30"},
        under={'up{job="vllm",instance="a"}': "0x30", 'up{job="vllm",instance="b"}': "1x30"},
        total={'up{job="vllm",instance="a"}': "0x30"},
    ),
    *quartet(
        "VllmErrors",
        {"severity": "ticket", "team": "models"},
        summary="10% of the calls to vLLM fail",
        description="They are tried again elsewhere: answers are slower and dearer. Its log tells why.",
        dashboard="trellis-vllm",
        at="40m",
        fires={
            (
                'http_requests_total{job="vllm",instance="a",handler="/v1/chat/completions",method="POST",status="2xx"}'
            ): "0+90x60",
            (
                'http_requests_total{job="vllm",instance="a",handler="/v1/chat/completions",method="POST",status="5xx"}'
            ): "0+10x60",
        },
        under={
            (
                'http_requests_total{job="vllm",instance="a",handler="/v1/chat/completions",method="POST",status="2xx"}'
            ): "0+990x60",
            (
                'http_requests_total{job="vllm",instance="a",handler="/v1/chat/completions",method="POST",status="5xx"}'
            ): "0+10x60",
        },
        total={
            (
                'http_requests_total{job="vllm",instance="a",handler="/v1/chat/completions",method="POST",status="2xx"}'
            ): "0+0x60",
            (
                'http_requests_total{job="vllm",instance="a",handler="/v1/chat/completions",method="POST",status="5xx"}'
            ): "0+100x60",
        },
        total_summary="100% of the calls to vLLM fail",
    ),
    *quartet(
        "VllmFirstTokenSlow",
        {"severity": "ticket", "team": "models", "model_name": "m"},
        summary="m takes 1000ms to its first token (95th percentile)",
        description="That is as long as half of all answers may take in whole. Look what waits, and at long prompts.",
        dashboard="trellis-vllm",
        at="40m",
        fires={
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="0.25"}': "0+0x60",
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="1.0"}': "0+95x60",
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="+Inf"}': "0+100x60",
        },
        under={
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="0.25"}': "0+99x60",
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="1.0"}': "0+100x60",
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="+Inf"}': "0+100x60",
        },
        total={
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="0.25"}': "0+0x60",
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="1.0"}': "0+0x60",
            'vllm:time_to_first_token_seconds_bucket{instance="a",model_name="m",le="+Inf"}': "0+100x60",
        },
        total_summary="m takes 1s to its first token (95th percentile)",
    ),
    *quartet(
        "VllmWaiting",
        {"severity": "ticket", "team": "models", "model_name": "m"},
        summary="15 requests wait for m",
        description=(
            "There are more calls than it can batch. Look whether more GPU nodes are coming, or at their most."
        ),
        dashboard="trellis-vllm",
        at="20m",
        fires={'vllm:num_requests_waiting{instance="a",model_name="m",engine="0"}': "15x30"},
        under={'vllm:num_requests_waiting{instance="a",model_name="m",engine="0"}': "9x30"},
        total={'vllm:num_requests_waiting{instance="a",model_name="m",engine="0"}': "900x30"},
        total_summary="900 requests wait for m",
        sets=["medium"],
    ),
    *quartet(
        "VllmWaiting",
        {"severity": "ticket", "team": "models", "model_name": "m"},
        summary="25 requests wait for m",
        description=(
            "There are more calls than it can batch. Look whether more GPU nodes are coming, or at their most."
        ),
        dashboard="trellis-vllm",
        at="20m",
        fires={'vllm:num_requests_waiting{instance="a",model_name="m",engine="0"}': "25x30"},
        under={'vllm:num_requests_waiting{instance="a",model_name="m",engine="0"}': "19x30"},
        total={'vllm:num_requests_waiting{instance="a",model_name="m",engine="0"}': "900x30"},
        total_summary="900 requests wait for m",
        sets=["multi-region"],
    ),
    *quartet(
        "VllmCacheFull",
        {"severity": "ticket", "team": "models", "instance": "a", "model_name": "m"},
        summary="The KV cache of a is 98% full",
        description="Requests are put off and done again. Prompts are too long, or there are too few replicas.",
        dashboard="trellis-vllm",
        at="20m",
        fires={'vllm:kv_cache_usage_perc{instance="a",model_name="m",engine="0"}': "0.98x30"},
        under={'vllm:kv_cache_usage_perc{instance="a",model_name="m",engine="0"}': "0.9x30"},
        total={'vllm:kv_cache_usage_perc{instance="a",model_name="m",engine="0"}': "1x30"},
        total_summary="The KV cache of a is 100% full",
    ),
    *quartet(
        "GpuXid",
        {"severity": "ticket", "team": "models", "node": "node-a", "gpu": "0", "err_code": "79"},
        summary="GPU 0 of node-a reports XID 79",
        description=(
            "The driver or the card failed. It stays until the exporter restarts: drain the node, replace it."
        ),
        dashboard="trellis-vllm",
        at="20m",
        fires={'DCGM_FI_DEV_XID_ERRORS{node="node-a",gpu="0",UUID="GPU-1",err_code="79"}': "79x30"},
        under={
            'DCGM_FI_DEV_XID_ERRORS{node="node-a",gpu="0",UUID="GPU-1",err_code="31"}': "31x30",
            'DCGM_FI_DEV_XID_ERRORS{node="node-a",gpu="0",UUID="GPU-1",err_code="0"}': "0x30",
        },
        total={'DCGM_FI_DEV_XID_ERRORS{node="node-a",gpu="0",UUID="GPU-1",err_code="79"}': "79x30"},
    ),
    *quartet(
        "GpuHot",
        {"severity": "ticket", "team": "models", "node": "node-a", "gpu": "0"},
        summary="GPU 0 of node-a is at 88 °C",
        description="It slows itself down, then it stops. The cooling of that host fails: replace the node.",
        dashboard="trellis-vllm",
        at="20m",
        fires={'DCGM_FI_DEV_GPU_TEMP{node="node-a",gpu="0",UUID="GPU-1"}': "88x30"},
        under={'DCGM_FI_DEV_GPU_TEMP{node="node-a",gpu="0",UUID="GPU-1"}': "84x30"},
        total={'DCGM_FI_DEV_GPU_TEMP{node="node-a",gpu="0",UUID="GPU-1"}': "100x30"},
        total_summary="GPU 0 of node-a is at 100 °C",
    ),
    *quartet(
        "GpuMemoryErrors",
        {"severity": "ticket", "team": "models", "node": "node-a", "gpu": "0"},
        summary="The memory of GPU 0 of node-a has errors that ECC cannot correct",
        description="Calls on it fail, and it wears out. Drain the node and replace it.",
        dashboard="trellis-vllm",
        at="2h",
        fires={'DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{node="node-a",gpu="0",UUID="GPU-1"}': "0x100 1x40"},
        under={
            'DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{node="node-a",gpu="0",UUID="GPU-1"}': "2x140",
            'DCGM_FI_DEV_ROW_REMAP_FAILURE{node="node-a",gpu="0",UUID="GPU-1"}': "0x140",
        },
        total={'DCGM_FI_DEV_ROW_REMAP_FAILURE{node="node-a",gpu="0",UUID="GPU-1"}': "1x140"},
    ),
    *quartet(
        "GpuMemoryFull",
        {"severity": "ticket", "team": "models", "node": "node-a", "gpu": "0"},
        summary="99% of the memory of GPU 0 on node-a taken",
        description="The next allocation fails, and vLLM with it. Lower its share of the memory.",
        dashboard="trellis-vllm",
        at="20m",
        fires={
            'DCGM_FI_DEV_FB_USED{node="node-a",gpu="0",UUID="GPU-1"}': "990x30",
            'DCGM_FI_DEV_FB_FREE{node="node-a",gpu="0",UUID="GPU-1"}': "10x30",
        },
        under={
            'DCGM_FI_DEV_FB_USED{node="node-a",gpu="0",UUID="GPU-1"}': "950x30",
            'DCGM_FI_DEV_FB_FREE{node="node-a",gpu="0",UUID="GPU-1"}': "50x30",
        },
        total={
            'DCGM_FI_DEV_FB_USED{node="node-a",gpu="0",UUID="GPU-1"}': "1000x30",
            'DCGM_FI_DEV_FB_FREE{node="node-a",gpu="0",UUID="GPU-1"}': "0x30",
        },
        total_summary="100% of the memory of GPU 0 on node-a taken",
    ),
)
