"""A member's answer as a stream: the same as the whole one, and nobody else's to come back to."""

import orjson

from tests.support.claims import ask, load_sample, signed_in
from tests.support.service import running

QUESTION = "Show me all my claims of 2026"


def events(text: str) -> list[tuple[str, str, dict]]:
    """Each event's id, name and document."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry")))
        if fields:
            found.append((fields["id"], fields["event"], orjson.loads(fields["data"])))
    return found


async def test_a_stream_gives_the_whole_answer_and_belongs_to_who_began_it(tmp_path):
    async with running(tmp_path, knowledge=False) as service:
        await load_sample(service)
        ada, bilal = await signed_in(service, "m-1001"), await signed_in(service, "m-1002")
        whole = await ask(service, ada, QUESTION)
        body = {"message": QUESTION, "stream": True}
        answer = await service.client.post("/v1/claims/chat", json=body, headers=ada)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["ratelimit"].startswith('"claims-chat";r=8')
        came = events(answer.text)
        assert [name for _, name, _ in came][:3] == ["start", "tool", "tool"]
        assert "".join(data["text"] for _, name, data in came if name == "token").strip() == whole["text"]
        assert came[-1][1] == "done"
        assert came[-1][2]["text"] == whole["text"]
        assert "CL-2026-700111" in whole["text"]

        back = answer.headers["location"]
        since = {"Last-Event-ID": came[-2][0]}
        again = await service.client.get(back, headers=ada | since)
        assert events(again.text) == came[-1:]
        foreign = await service.client.get(back, headers=bilal)
        assert foreign.status_code == 404
        assert (await service.client.get(back)).status_code == 404, "nor is it the insurer's"


async def test_what_is_wrong_before_the_first_event_is_an_ordinary_problem(tmp_path):
    async with running(tmp_path, knowledge=False) as service:
        body = {"message": QUESTION, "stream": True}
        answer = await service.client.post("/v1/claims/chat", json=body)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        ada = await signed_in(service, "m-1001")
        answer = await service.client.post("/v1/claims/chat", json={"message": "x" * 8_001}, headers=ada)
        assert answer.status_code == 422
