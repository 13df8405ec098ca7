"""Builds and closes every backend: the one place that knows embedded from production."""

from app.container.container import Container, Parts
from app.container.migration import Move, migrate_database, plan_migration
from app.container.opening import LOCAL_TENANT, PACKS, open_container, prompt_directories

__all__ = [
    "LOCAL_TENANT",
    "PACKS",
    "Container",
    "Move",
    "Parts",
    "migrate_database",
    "open_container",
    "plan_migration",
    "prompt_directories",
]
