"""Addresses of Grafana's page for free questions."""

import json
from collections.abc import Mapping
from urllib.parse import quote


def explored(source: str, query: Mapping[str, object]) -> str:
    """The page with a query to the datasource variable `source`, for the time that the board shows.

    Grafana puts in what stands as `${...}`, so that stays as it is; the rest is quoted.
    """
    shown = {"from": "${__from}", "to": "${__to}"}
    pane = {"datasource": f"${{{source}}}", "queries": [{"refId": "A", **query}], "range": shown}
    return f"/explore?schemaVersion=1&panes={quote(json.dumps({'t': pane}), safe='${}')}"
