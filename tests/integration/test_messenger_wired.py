"""Which processes reach the brokers that the settings name."""

import threading
from pathlib import Path

import pytest

from app.container import Parts, migrate_database, open_container
from app.messages.kafka import KafkaMessenger
from app.settings import load_settings


@pytest.mark.parametrize(("parts", "readers"), [(Parts.COMMAND, 0), (Parts.SERVER, 2)])
async def test_a_command_reaches_no_broker(tmp_path: Path, parts: Parts, readers: int) -> None:
    settings = load_settings({}, home=tmp_path, log_level="ERROR", kafka_url="127.0.0.1:1", kafka_partitions=0)
    await migrate_database(settings)
    async with open_container(settings, parts) as container:
        assert isinstance(container.kit.messenger, KafkaMessenger)
        assert sum(thread.name.startswith("kafka-") for thread in threading.enumerate()) == readers
