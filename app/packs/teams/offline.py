from collections.abc import Mapping
from app.agent.offline import OfflineRule


def offline_rules() -> Mapping[str, OfflineRule]:
    return {}
