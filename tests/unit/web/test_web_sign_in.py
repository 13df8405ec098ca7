"""The console's door: who gets in, how, for how long, and how a form proves where it came from."""

from dataclasses import replace

import pytest

from app.governance.keys import revoke_key
from app.http.rates import RatePlan
from app.principal import Principal, Role
from app.settings import load_settings
from app.web.pages.sign_in import USED_LINK, WRONG_KEY
from app.web.signing import make_ticket, signing_key
from tests.support.console import make_key, visiting

PAGES = ["/console/", "/console/decisions", "/console/approvals", "/console/audit", "/console/flags", "/console/outbox"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_is_sent_to_the_sign_in_page(stranger, path):
    answer = await stranger.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/sign-in")


async def test_a_key_opens_the_console_and_the_cookie_cannot_leak(container, stranger):
    _, secret = await make_key(container, Role.VIEWER)
    answer = await stranger.sign_in(secret)
    assert answer.status_code == 303
    cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("trellis_session="))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/console" in cookie
    assert "Secure" not in cookie
    assert secret not in cookie
    page = await stranger.get("/console/decisions")
    assert page.status_code == 200
    assert "acme" in page.text


async def test_every_way_in_is_audited_without_the_key(container, stranger):
    key_id, secret = await make_key(container, Role.ADMIN)
    await stranger.sign_in(secret)
    ticket = make_ticket(signing_key(container.settings), key_id, container.clock())
    await stranger.get(f"/console/sign-in?ticket={ticket}")
    page = (await stranger.get("/console/audit")).text
    assert page.count("console.signed_in") == 2
    assert "by: key" in page
    assert "by: link" in page
    assert key_id in page
    assert secret not in page


async def test_over_tls_and_in_production_the_cookie_is_for_tls_only(container):
    production = load_settings(
        {}, environment="production", session_secret="p" * 40, database_url="sqlite+aiosqlite:///x"
    )
    for app, base in (
        (container.app(), "https://console"),
        (replace(container, settings=production).app(), "http://console"),
    ):
        async with visiting(app, base) as visitor:
            page = await visitor.get("/console/sign-in")
            assert "Secure" in page.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "x", "trl_" + "a" * 40, "trl_'; --", "é" * 50])
async def test_every_wrong_key_gets_the_same_words(container, stranger, key):
    answer = await stranger.sign_in(key)
    assert answer.status_code == 401
    assert WRONG_KEY in answer.text
    assert key == "" or f'"{key}"' not in answer.text
    assert "trellis_session" not in answer.headers.get("set-cookie", "")


async def test_revoked_and_expired_keys_get_the_same_words_too(container, stranger, clock):
    key_id, secret = await make_key(container, Role.ADMIN)
    async with container.db.operator_transaction() as session:
        await revoke_key(session, "acme", key_id, clock())
    answer = await stranger.sign_in(secret)
    assert answer.status_code == 401
    assert WRONG_KEY in answer.text


async def test_wrong_keys_are_limited_for_each_address(container):
    container = replace(container, plan=RatePlan(failures_per_minute=2))
    _, secret = await make_key(container, Role.ADMIN)
    app = container.app()
    async with visiting(app) as visitor, visiting(app, address="10.0.0.2") as other:
        assert [(await visitor.sign_in("wrong")).status_code for _ in range(3)] == [401, 401, 429]
        blocked = await visitor.sign_in(secret)
        assert blocked.status_code == 429
        assert blocked.headers["retry-after"]
        assert (await other.sign_in(secret)).status_code == 303


async def test_a_revoked_key_ends_its_sessions_within_seconds(container, stranger, clock):
    key_id, secret = await make_key(container, Role.ADMIN)
    await stranger.sign_in(secret)
    assert (await stranger.get("/console/audit")).status_code == 200
    async with container.db.operator_transaction() as session:
        await revoke_key(session, "acme", key_id, clock())
    clock.advance(seconds=6)
    assert (await stranger.get("/console/audit")).status_code == 303


async def test_a_session_ends_by_itself(admin, clock):
    clock.advance(hours=11.9)
    assert (await admin.get("/console/audit")).status_code == 200
    clock.advance(hours=0.2)
    assert (await admin.get("/console/audit")).status_code == 303


async def test_a_forged_session_is_none(container, stranger):
    key_id, _ = await make_key(container, Role.ADMIN)
    ticket = make_ticket(b"another secret", key_id, container.clock())
    for cookie in ("", "x", "a.b", ticket, make_ticket(signing_key(container.settings), key_id, container.clock())):
        stranger.client.cookies.set("trellis_session", cookie)
        assert (await stranger.get("/console/audit")).status_code == 303


async def test_signing_out_forgets_the_session(admin):
    await admin.get("/console/audit")
    answer = await admin.post("/console/sign-out")
    assert answer.headers["location"] == "/console/sign-in"
    assert (await admin.get("/console/audit")).status_code == 303


async def test_after_signing_in_the_wanted_page_comes(container, stranger):
    _, secret = await make_key(container, Role.ADMIN)
    asked = await stranger.get("/console/decisions?action=respond")
    page = await stranger.get(asked.headers["location"])
    assert 'value="/console/decisions?action=respond"' in page.text
    answer = await stranger.post("/console/sign-in", {"key": secret, "next": "/console/decisions?action=respond"})
    assert answer.headers["location"] == "/console/decisions?action=respond"


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/console/", "//evil.example", "/console/\nSet-Cookie: a=b", "/console\\evil", "/v1"]
)
async def test_nobody_is_sent_elsewhere_after_signing_in(container, stranger, wanted):
    _, secret = await make_key(container, Role.ADMIN)
    answer = await stranger.sign_in(secret, next=wanted)
    assert answer.headers["location"] == "/console/"


async def test_a_one_time_link_opens_the_console_once(container, stranger):
    key_id, _ = await make_key(container, Role.ADMIN)
    link = f"/console/sign-in?ticket={make_ticket(signing_key(container.settings), key_id, container.clock())}"
    assert (await stranger.get(link)).status_code == 200
    assert (await stranger.get("/console/audit")).status_code == 200
    async with visiting(container.app()) as second:
        again = await second.get(link)
        assert again.status_code == 401
        assert USED_LINK in again.text
        assert (await second.get("/console/audit")).status_code == 303


async def test_a_link_is_worth_nothing_when_it_is_late_forged_or_of_an_ended_key(container, stranger, clock):
    key_id, _ = await make_key(container, Role.ADMIN)
    key = signing_key(container.settings)
    late = make_ticket(key, key_id, clock())
    clock.advance(minutes=10)
    ended = make_ticket(key, key_id, clock())
    async with container.db.operator_transaction() as session:
        await revoke_key(session, "acme", key_id, clock())
    unknown = make_ticket(key, "key_unknown", clock())
    for ticket in (late, make_ticket(b"forged", key_id, clock()), ended, unknown, "x"):
        assert (await stranger.get(f"/console/sign-in?ticket={ticket}")).status_code == 401


@pytest.mark.parametrize("token", ["", "x", None])
async def test_a_form_without_its_token_is_not_taken(admin, container, token):
    await admin.get("/console/flags/kill.leads")
    form = {"value": "true", "confirmed": "yes"} | ({} if token is None else {"form_token": token})
    answer = await admin.client.post("/console/flags/kill.leads", data=form)
    assert answer.status_code == 403
    await container.flags.refresh()
    assert not container.flags.killed("leads", "acme")


async def test_a_token_is_good_for_its_own_session_only(admin, agent):
    await admin.get("/console/audit")
    await agent.get("/console/audit")
    agent.token = admin.token
    assert (await agent.post("/console/audit")).status_code == 403


async def test_the_sign_in_form_needs_its_token_too(container, stranger):
    _, secret = await make_key(container, Role.ADMIN)
    await stranger.get("/console/sign-in")
    assert (await stranger.client.post("/console/sign-in", data={"key": secret})).status_code == 403


async def test_a_json_body_does_not_get_past_the_token(admin):
    answer = await admin.client.post("/console/flags/kill.leads", json={"value": "true", "confirmed": "yes"})
    assert answer.status_code == 403


async def test_a_form_in_an_encoding_of_its_own_is_not_taken(admin):
    part = b'--b\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n\\ud800\r\n--b--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b; charset=unicode_escape"}
    answer = await admin.client.post("/console/flags/kill.leads", content=part, headers=kind)
    assert answer.status_code == 403


async def test_without_authentication_everybody_is_the_open_principal(container):
    container = replace(container, open_as=Principal("acme", "anonymous", Role.ADMIN))
    await container.flags.refresh()
    async with visiting(container.app()) as visitor:
        assert (await visitor.get("/console/flags/kill.leads")).status_code == 200
        answer = await visitor.post("/console/flags/kill.leads", {"value": "true", "confirmed": "yes"})
        assert answer.status_code == 303
        visitor.client.cookies.clear()
        assert (await visitor.post("/console/flags/kill.leads", {"value": "false"})).status_code == 403


async def test_a_polling_part_of_a_page_is_told_to_sign_in(stranger):
    answer = await stranger.get("/console/decisions", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/console/sign-in"


async def test_an_api_key_in_a_header_is_no_session(container, stranger):
    _, secret = await make_key(container, Role.ADMIN)
    answer = await stranger.get("/console/audit", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 303
