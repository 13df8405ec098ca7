"""Members from JSON and CSV, in once however often they are sent."""

from datetime import date
from pathlib import Path

import orjson
import pytest

from app.errors import Forbidden, InvalidInput, Malformed, TrellisError, UnsupportedMedia
from app.governance.audit import Audit
from app.governance.privacy import mask
from app.packs.claims.importing import Importer
from app.packs.claims.models import Claim, Member, Policy
from app.packs.claims.reading import COLUMNS, read_members
from app.packs.claims.repository import ClaimFilter, OwnRecords
from app.packs.claims.schemas import MembersIn
from app.packs.claims.service import SAMPLE
from app.principal import Principal, Role

ADMIN = Principal("acme", "key_1", Role.ADMIN)


def member(user_id: str = "u-1", **more):
    policy = {
        "number": f"HH-2024-00{len(user_id)}001",
        "product": "Core",
        "currency": "EUR",
        "starts_on": "2024-01-01",
        "limits": {"dental": 60000, "optical": 15000},
    }
    return {"user_id": user_id, "name": "Ada", "email": "ada@members.example", "policies": [policy]} | more


def claim(number: str = "CL-2026-000001", **more):
    base = {
        "number": number,
        "policy": "HH-2024-003001",
        "benefit": "dental",
        "state": "paid",
        "amount_claimed": 5000,
        "amount_paid": 4000,
        "incurred_on": "2026-02-01",
    }
    return base | more


def document(*members) -> bytes:
    return orjson.dumps({"members": list(members)})


def read(*members) -> MembersIn:
    return read_members("application/json", document(*members))


@pytest.fixture
def put(db, clock):
    importer = Importer(clock, Audit(clock))

    async def work(given: MembersIn, principal: Principal = ADMIN):
        async with db.operator_transaction() as session:
            return await importer.put(session, principal, given.members)

    return work


async def test_the_same_import_again_changes_nothing(put, db, clock):
    given = read(member(claims=[claim()]))
    first, touched = await put(given)
    assert first.model_dump() == {
        name: {"new": 1, "changed": 0, "unchanged": 0} for name in ("members", "policies", "claims")
    }
    assert touched == {"u-1"}
    clock.advance(hours=1)
    again, touched = await put(given)
    assert again.model_dump() == {
        name: {"new": 0, "changed": 0, "unchanged": 1} for name in ("members", "policies", "claims")
    }
    assert touched == frozenset()
    async with db.operator_reading() as session:
        (row,) = (await session.execute(Claim.__table__.select())).all()
    assert row.updated_at < clock()


async def test_a_change_is_taken_and_what_is_left_out_stays(put, db):
    await put(read(member(claims=[claim(), claim("CL-2026-000002")])))
    report, touched = await put(
        read(member(name="Ada B.", policies=[], claims=[claim(state="rejected", amount_paid=0)]))
    )
    assert (report.members.changed, report.policies.changed, report.claims.changed) == (1, 0, 1)
    assert touched == {"u-1"}
    async with db.operator_reading() as session:
        own = OwnRecords(session, "acme", "u-1")
        states = {found.number: found.state for found, _ in await own.claims(ClaimFilter(), 10)}
        (policy,) = await own.policies()
    assert states == {"CL-2026-000001": "rejected", "CL-2026-000002": "paid"}
    assert policy.starts_on == date(2024, 1, 1)


async def test_two_tenants_may_use_the_same_numbers(put, db):
    given = read(member(claims=[claim()]))
    await put(given)
    report, _ = await put(given, Principal("globex", "key_2", Role.ADMIN))
    assert (report.members.new, report.claims.new) == (1, 1)
    async with db.operator_reading() as session:
        assert len((await session.execute(Claim.__table__.select())).all()) == 2


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([member(), member()], "The member u-1 is in the import twice"),
        ([member(claims=[claim(), claim()])], "The claim CL-2026-000001 is in the import twice"),
        ([member(claims=[claim(policy="HH-2024-999999")])], "names the policy HH-2024-999999, which is not there"),
        ([member("u-22", policies=[], claims=[claim()])], "belongs to another member"),
        ([member("u-22", policies=member()["policies"])], "belongs to another member"),
        ([member("u-22", claims=[claim(policy="HH-2024-004001")])], "claim CL-2026-000001 belongs to another member"),
    ],
)
async def test_what_contradicts_itself_is_refused_whole(put, db, members, sentence):
    await put(read(member(claims=[claim()])))
    with pytest.raises(InvalidInput, match=sentence):
        await put(read(*members))
    async with db.operator_reading() as session:
        rows = [len((await session.execute(kind.__table__.select())).all()) for kind in (Member, Policy, Claim)]
    assert rows == [1, 1, 1]


async def test_only_an_admin_imports(put):
    with pytest.raises(Forbidden):
        await put(read(member()), Principal("acme", "key_1", Role.AGENT))


@pytest.mark.parametrize(
    ("kind", "body", "error", "sentence"),
    [
        ("application/json", document(), InvalidInput, "members: List should have at least 1 item"),
        ("application/json", b"[]", InvalidInput, "the body: "),
        ("application/json", document(member("a@b.example")), InvalidInput, "members.0.user_id: .*opaque id"),
        ("application/json", document(member(email="nobody")), InvalidInput, "members.0.email"),
        ("application/json", document(member(claims=[claim("X-1")])), InvalidInput, "members.0.claims.0.number"),
        ("application/json", document(member(claims=[claim(amount_paid=-1)])), InvalidInput, "amount_paid"),
        ("application/json", document(member(claims=[claim(state="lost")])), InvalidInput, "state"),
        ("text/csv", b"user_id,nom\nu,x\n", InvalidInput, "has the column 'nom'"),
        ("text/csv", b"name\nx\n", InvalidInput, "no column 'user_id'"),
        ("text/csv", b"user_id,name\nu-1\n", InvalidInput, "Line 2 has more or fewer values"),
        ("text/csv", b'user_id,name\nu-1,"x\n', InvalidInput, "is not CSV"),
        ("text/csv", b"user_id,name\nu-1,\xff\n", Malformed, "not UTF-8: byte 17"),
        ("text/csv", b"user_id,product,policy_number,limits\nu,P,HH-2024-1111,dental\n", InvalidInput, "Line 2: write"),
        ("text/plain", b"", UnsupportedMedia, "text/csv"),
    ],
)
def test_what_cannot_be_read_is_named(kind, body, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        read_members(kind, body)
    assert isinstance(raised.value, TrellisError)
    assert raised.value.detail.count("\n") == 0


def test_rows_of_one_member_and_policy_are_put_together():
    rows = [
        ["u-1", "Ada", "a@m.example", "HH-2024-001001", "Core", "EUR", "2024-01-01", "", "dental=100", "", *[""] * 6],
        [
            "u-1",
            "",
            "",
            "HH-2024-001001",
            "",
            "",
            "",
            "",
            "",
            "CL-2026-1001",
            "dental",
            "paid",
            "5",
            "4",
            "2026-01-02",
            "",
        ],
    ]
    lines = [",".join(COLUMNS), *(",".join(row) for row in rows)]
    (found,) = read_members("text/csv; charset=utf-8", "\n".join(lines).encode("utf-8-sig")).members
    assert (found.name, len(found.policies), len(found.claims)) == ("Ada", 1, 1)
    assert found.policies[0].limits == {"dental": 100}
    assert (found.claims[0].policy, found.claims[0].amount_paid) == ("HH-2024-001001", 4)


def test_the_sample_can_be_read_and_each_of_its_numbers_is_masked():
    members = read_members("text/csv", (SAMPLE / "members.csv").read_bytes()).members
    assert len(members) >= 6
    assert sum(len(found.claims) for found in members) >= 30
    assert {found.state for one in members for found in one.claims} >= {"paid", "rejected", "in_review"}
    numbers = [row.number for one in members for row in (*one.policies, *one.claims)]
    assert {mask(f"about {number}.") for number in numbers} == {"about [number]."}
    assert len(list(Path(SAMPLE / "knowledge").glob("*.md"))) >= 12
