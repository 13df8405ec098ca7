"""Where provisioned files lie and how they are written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOM: Final = Path(__file__).parent.parent
Document = Mapping[str, Any]
_HEAD: Final = "# Written by `make generated` from provisioning/src and infra/phases.py: never edited by hand.\n"


class _Plain(yaml.SafeDumper):
    """Writes a list or a mapping out each time it is named: readers of these files do not all know anchors."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def text(document: Document) -> str:
    return _HEAD + yaml.dump(document, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)
