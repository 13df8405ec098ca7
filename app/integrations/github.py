"""GitHub over its REST API, version 2022-11-28, with a token that may read the repositories.

Written from GitHub's documentation: "REST API endpoints for issues" ("List repository issues": pull requests are in it
too, told apart by the member `pull_request`; 410 where issues are switched off), "pull requests", "commits" (409 for an
empty repository), "releases"; "Using pagination in the REST API" (the header Link, rel="next"); "Rate limits for the
REST API" (403 or 429 with `x-ratelimit-remaining: 0` and `x-ratelimit-reset` in seconds since 1970, or `retry-after`);
"Best practices": one request after the other. A repository that was renamed answers 301.

A fine-grained token needs the repository permissions Contents, Issues and Pull requests, each read-only.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from app.clock import Clock, system_clock
from app.errors import NotFound
from app.integrations.auth import FixedToken
from app.integrations.base import CodeActivity, CodeItem, CodeKind, checked_repository
from app.integrations.errors import IntegrationError
from app.integrations.vendor_http import Answer, Call, Limits, Refusal, Repeat, VendorAccount, VendorHttp, needed
from app.integrations.wire import MOST_TITLE, clipped, moment, moment_or_none, read_rows

BASE_URL = "https://api.github.com"
VERSION = "2022-11-28"
PAGE = 100
MOST_PAGES = 3
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="next"')
_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": VERSION, "User-Agent": "trellis"}
_MOVED, _GONE, _EMPTY, _MISSING = 301, 410, 409, 404


class GitHub:
    """Args:
    token: a token of an account that may read the clients' repositories.
    """

    name = "github"

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token: str,
        tenants: frozenset[str],
        *,
        base_url: str = BASE_URL,
        limits: Limits | None = None,
        clock: Clock = system_clock,
    ) -> None:
        needed("GitHub", github_token=token)
        self._account = VendorAccount("GitHub", tenants)
        self._clock = clock
        self._http = VendorHttp(
            session,
            "GitHub",
            base_url,
            FixedToken(token),
            self._read_refusal,
            headers=_HEADERS,
            limits=limits,
            clock=clock,
        )

    async def activity(self, tenant_id: str, repository: str, since: datetime) -> CodeActivity:
        self._account.check(tenant_id)
        checked_repository(repository)
        since = since.astimezone(UTC).replace(microsecond=0)
        changed = {"state": "all", "sort": "updated", "direction": "desc"}
        asked = {"since": f"{since:%Y-%m-%dT%H:%M:%SZ}"}
        issues, more_issues = await self._read(repository, "issues", changed | asked, _issue, since)
        pulls, more_pulls = await self._read(repository, "pulls", changed, _pull, since)
        commits, more_commits = await self._read(repository, "commits", asked, _commit, since)
        releases, more_releases = await self._read(repository, "releases", {}, _release, since)
        items = sorted([*issues, *pulls, *commits, *releases], key=lambda item: item.at, reverse=True)
        cut = more_issues or more_pulls or more_commits or more_releases
        return CodeActivity(repository, tuple(items), cut)

    async def _read(
        self,
        repository: str,
        what: str,
        params: Mapping[str, str],
        read: Callable[[Any], "_Dated | None"],
        since: datetime,
    ) -> tuple[list[CodeItem], bool]:
        """What changed since then, and whether there is more. Pages come newest first, so an old one ends it."""
        found: list[CodeItem] = []
        params = {**params, "per_page": str(PAGE)}
        for _ in range(MOST_PAGES):
            answer = await self._page(repository, what, params)
            if answer is None:
                return found, False
            dated = read_rows("GitHub", f"the {what} of '{repository}'", answer.body, read)
            fresh = [item for changed_at, item in dated if changed_at >= since]
            found += fresh
            following = _next_page(answer.headers)
            if following is None or len(fresh) < len(dated):
                return found, False
            params = {**params, **following}
        return found, True

    async def _page(self, repository: str, what: str, params: Mapping[str, str]) -> Answer | None:
        """None where the repository has none of it: issues switched off, not a single commit."""
        call = Call(
            f"read the {what} of '{repository}'",
            "GET",
            f"/repos/{repository}/{what}",
            Repeat.SAFE,
            params,
            accept=frozenset({_MOVED, _MISSING, _EMPTY, _GONE}),
        )
        answer = await self._http.send(call)
        if answer.status == _MISSING:
            raise NotFound(
                f"There is no repository '{repository}' on GitHub, or its token may not read it: check the name "
                "and the token's permissions."
            )
        if answer.status == _MOVED:
            detail = f"The repository '{repository}' was renamed on GitHub: give the client its new name."
            raise IntegrationError(detail, retryable=False)
        return answer if answer.ok else None

    def _read_refusal(self, answer: Answer) -> Refusal:
        """`{message, documentation_url}`; a limit shows in the headers, the secondary one in the message too."""
        body = answer.body if isinstance(answer.body, dict) else {}
        words = str(body.get("message", ""))
        spent = answer.headers.get("X-RateLimit-Remaining") == "0"
        waits = "Retry-After" in answer.headers
        limited = answer.status in (403, 429) and (spent or waits or "rate limit" in words.lower())
        reset = answer.headers.get("X-RateLimit-Reset", "")
        known = limited and spent and reset.isdecimal()
        return Refusal(words, limited, max(0.0, int(reset) - self._clock().timestamp()) if known else None)


_Dated = tuple[datetime, CodeItem]
"""An item, and when it changed last."""


def _next_page(headers: Mapping[str, str]) -> dict[str, str] | None:
    """The query of the next page. Its address is not followed: the token goes to the address of the settings only."""
    found = _NEXT.search(headers.get("Link", ""))
    return dict(parse_qsl(urlsplit(found[1]).query)) if found else None


def _author(person: Any) -> str:
    """The login; "" where the account is gone."""
    return str(person["login"]) if person else ""


def _issue(row: Any) -> _Dated | None:
    if "pull_request" in row:
        return None
    return moment(row["updated_at"]), CodeItem(
        CodeKind.ISSUE,
        str(row["number"]),
        clipped(row["title"], MOST_TITLE),
        moment(row["created_at"]),
        _author(row["user"]),
        str(row["state"]),
        moment_or_none(row["closed_at"]),
        tuple(_label(label) for label in row["labels"]),
        clipped(row["body"]),
        str(row["html_url"]),
    )


def _label(label: Any) -> str:
    return clipped(label if isinstance(label, str) else label.get("name"), MOST_TITLE)


def _pull(row: Any) -> _Dated:
    return moment(row["updated_at"]), CodeItem(
        CodeKind.PULL,
        str(row["number"]),
        clipped(row["title"], MOST_TITLE),
        moment(row["created_at"]),
        _author(row["user"]),
        "merged" if row["merged_at"] else str(row["state"]),
        moment_or_none(row["closed_at"]),
        tuple(_label(label) for label in row["labels"]),
        clipped(row["body"]),
        str(row["html_url"]),
    )


def _commit(row: Any) -> _Dated:
    commit = row["commit"]
    made = moment(commit["committer"]["date"])
    title, _, rest = str(commit["message"]).partition("\n")
    login = _author(row["author"]) or str(commit["author"]["name"])
    return made, CodeItem(
        CodeKind.COMMIT,
        str(row["sha"]),
        clipped(title, MOST_TITLE),
        made,
        login,
        text=clipped(rest),
        url=str(row["html_url"]),
    )


def _release(row: Any) -> _Dated | None:
    if row["draft"]:
        return None
    published = moment(row["published_at"])
    return published, CodeItem(
        CodeKind.RELEASE,
        str(row["tag_name"]),
        clipped(row["name"] or row["tag_name"], MOST_TITLE),
        published,
        _author(row["author"]),
        text=clipped(row["body"]),
        url=str(row["html_url"]),
    )
