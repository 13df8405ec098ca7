"""Builds and closes every backend: the one place that knows embedded from production."""

from app.container.container import Container, Parts
from app.container.opening import LOCAL_TENANT, PACKS, migrate_database, open_container, prompt_directories

__all__ = ["LOCAL_TENANT", "PACKS", "Container", "Parts", "migrate_database", "open_container", "prompt_directories"]
