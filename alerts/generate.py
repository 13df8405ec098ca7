"""The rules of every phase, as the files that Prometheus reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from alerts.model import Site
from alerts.topics import GLOBAL_TOPICS, TOPICS, Topic
from infra.phases import PHASES

RULES: Final = Path(__file__).parent / "rules"
_HEAD: Final = "# Written by `make generated` from alerts/*.py and infra/phases.py: never edited by hand.\n"


def rule_files(site: Site) -> Mapping[str, str]:
    """By file name: the rules of one phase. A subject that the phase has nothing of has no file."""
    return _files(site, TOPICS)


def global_rule_files(site: Site) -> Mapping[str, str]:
    """By file name: the rules of the Prometheus above all regions; none where the phase has one region."""
    return _files(site, GLOBAL_TOPICS)


def _files(site: Site, topics: Mapping[str, Topic]) -> Mapping[str, str]:
    groups = {name: topic(site) for name, topic in topics.items()}
    return {
        f"{name}.yaml": _HEAD + _yaml({"groups": [group.document(site) for group in found]})
        for name, found in groups.items()
        if found
    }


def _yaml(document: Mapping[str, object]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)


def committed() -> Mapping[Path, str]:
    """Every file of `alerts/rules`, as it should be: a folder for each phase, and one more for the global rules."""
    sites = [Site(phase) for phase in PHASES.values()]
    own = {RULES / site.phase.name.value / name: text for site in sites for name, text in rule_files(site).items()}
    above = {
        RULES / f"{site.phase.name.value}-global" / name: text
        for site in sites
        for name, text in global_rule_files(site).items()
    }
    return own | above
