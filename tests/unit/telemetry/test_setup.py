"""A process's metrics start with its build and its own resources."""

from prometheus_client import generate_latest

from app.telemetry.setup import build_metrics


def test_the_registry_holds_build_process_and_catalogue() -> None:
    text = generate_latest(build_metrics("0.1.0", "poc").registry).decode()
    assert 'trellis_build_info{phase="poc",version="0.1.0"} 1.0' in text
    assert "python_gc_objects_collected_total" in text
    assert "process_resident_memory_bytes" in text
    assert "trellis_audit_entries_total 0.0" in text
