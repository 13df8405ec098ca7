"""GitHub's REST API: a repository's issues, pull requests, commits and releases, by pages."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web

from app.clock import Clock, system_clock
from app.integrations.base import CodeItem, CodeKind
from tests.support.fakes.server import FakeVendor, Refused, answer, bearer

TOKEN = "github_pat_of_the_github_fake"
_DOCS = "https://docs.github.com/rest"


def error(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "documentation_url": _DOCS, "status": str(status)}


def stamp(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@dataclass
class FakeGitHub(FakeVendor):
    """`repositories` by name: `issues` holds pull requests too, as GitHub's does."""

    clock: Clock = system_clock
    most: int = 100
    repositories: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/repos/{owner}/{name}/{what}", self.listing)]

    def add(self, repository: str, items: Iterable[CodeItem]) -> None:
        rows = self.repositories.setdefault(repository, {"issues": [], "pulls": [], "commits": [], "releases": []})
        for item in items:
            match item.kind:
                case CodeKind.ISSUE:
                    rows["issues"].append(_issue(item))
                case CodeKind.PULL:
                    rows["pulls"].append(_pull(item))
                    rows["issues"].append({**_issue(item), "state": "closed", "pull_request": {"url": "https://x"}})
                case CodeKind.COMMIT:
                    rows["commits"].append(_commit(item))
                case CodeKind.RELEASE:
                    rows["releases"].append(_release(item))

    async def listing(self, request: web.Request) -> web.Response:
        if bearer(request) != TOKEN:
            raise Refused(401, error(401, "Bad credentials"))
        if request.headers.get("X-GitHub-Api-Version") != "2022-11-28" or not request.headers.get("User-Agent"):
            raise Refused(400, error(400, "Invalid headers"))
        place, what = f"{request.match_info['owner']}/{request.match_info['name']}", request.match_info["what"]
        if place not in self.repositories:
            raise Refused(404, error(404, "Not Found"))
        rows = self._sorted(what, self.repositories[place][what], request.query.get("since"))
        if what == "commits" and not self.repositories[place][what]:
            raise Refused(409, error(409, "Git Repository is empty."))
        return self._page(request, rows)

    def _sorted(self, what: str, rows: list[dict[str, Any]], since: str | None) -> list[dict[str, Any]]:
        def changed(row: dict[str, Any]) -> str:
            if what == "commits":
                return str(row["commit"]["committer"]["date"])
            return str(row["published_at"] if what == "releases" else row["updated_at"])

        if since is not None:
            datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").astimezone()
            rows = [row for row in rows if changed(row) >= since]
        return sorted(rows, key=changed, reverse=True)

    def _page(self, request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
        size, page = min(int(request.query.get("per_page", "30")), self.most), int(request.query.get("page", "1"))
        shown, headers = rows[(page - 1) * size : page * size], {"X-RateLimit-Remaining": "4999"}
        if len(rows) > page * size:
            following = request.url.update_query(page=page + 1)
            first = request.url.update_query(page=1)
            headers["Link"] = f'<{following}>; rel="next", <{first}>; rel="first"'
        return answer(shown, headers=headers)


def _person(login: str) -> dict[str, Any] | None:
    return {"login": login, "id": 1, "type": "User"} if login else None


def _issue(item: CodeItem) -> dict[str, Any]:
    changed = max(item.at, item.closed_at or item.at)
    return {
        "id": 1000 + int(item.id),
        "number": int(item.id),
        "title": item.title,
        "state": item.state,
        "state_reason": "completed" if item.closed_at else None,
        "user": _person(item.author),
        "labels": [{"id": 1, "name": label, "color": "f29513", "default": True} for label in item.labels],
        "comments": 0,
        "created_at": stamp(item.at),
        "updated_at": stamp(changed),
        "closed_at": stamp(item.closed_at),
        "body": item.text or None,
        "html_url": item.url,
    }


def _pull(item: CodeItem) -> dict[str, Any]:
    merged = stamp(item.closed_at) if item.state == "merged" else None
    state = "open" if item.state == "open" else "closed"
    return _issue(item) | {"state": state, "merged_at": merged, "draft": False}


def _commit(item: CodeItem) -> dict[str, Any]:
    signed = {"name": item.author, "email": f"{item.author}@x.example", "date": stamp(item.at)}
    message = f"{item.title}\n\n{item.text}" if item.text else item.title
    return {
        "sha": item.id,
        "html_url": item.url,
        "commit": {"author": signed, "committer": signed, "message": message, "comment_count": 0},
        "author": None,
        "committer": None,
        "parents": [],
    }


def _release(item: CodeItem) -> dict[str, Any]:
    return {
        "id": 1,
        "tag_name": item.id,
        "name": item.title,
        "draft": False,
        "prerelease": False,
        "created_at": stamp(item.at),
        "published_at": stamp(item.at),
        "author": _person(item.author),
        "body": item.text,
        "html_url": item.url,
    }
