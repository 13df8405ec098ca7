"""Writes come from the record and the table by action; the model's words fill a letter's text and nothing else."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.packs.leads.models import Action
from app.packs.leads.planning import WRITES, Carried, first_wave, pick_slot, second_wave, spoken
from tests.support.leads import MOMENTS, SLOT, SLOTS, lead

BOOKED = {"crm_upsert": {"id": "con_1"}, "calendar_book": {"id": "bk_1", "start": SLOT.start.isoformat()}}


def carried(action: Action, reply: str = "Hello", subject: str = "Hi") -> Carried:
    return Carried("dec_1", action, "because", subject, reply, SLOT if action is Action.SCHEDULE else None)


def tools(plans):
    return [plan.tool for plan in plans]


@pytest.mark.parametrize("action", list(Action))
def test_both_waves_together_are_the_table_of_the_action(action):
    first = first_wave(lead(), carried(action))
    then = second_wave(lead(), carried(action), BOOKED)
    assert sorted(tools(first) + tools(then)) == sorted(WRITES[action])


def test_a_disqualified_lead_is_written_nowhere():
    assert first_wave(lead(), carried(Action.DISQUALIFY)) == []
    assert second_wave(lead(), carried(Action.DISQUALIFY), BOOKED) == []


def test_an_escalation_sends_no_mail():
    plans = first_wave(lead(), carried(Action.ESCALATE)) + second_wave(lead(), carried(Action.ESCALATE), BOOKED)
    assert "email_send" not in tools(plans)


@pytest.mark.parametrize("action", [Action.RESPOND, Action.NURTURE, Action.SCHEDULE])
def test_without_a_reply_no_mail_goes_out(action):
    what = carried(action, reply="")
    assert "email_send" not in tools(first_wave(lead(), what) + second_wave(lead(), what, BOOKED))


@given(reply=st.text(max_size=200), subject=st.text(max_size=50), action=st.sampled_from(list(Action)))
def test_every_address_comes_from_the_record(reply, subject, action):
    what = carried(action, reply=reply, subject=subject)
    for plan in first_wave(lead(), what) + second_wave(lead(), what, BOOKED):
        assert plan.args.get("to", "ada@brook.example") == "ada@brook.example"
        assert plan.args.get("email", "ada@brook.example") == "ada@brook.example"
        assert plan.key == f"dec_1:{plan.tool}"


def test_keys_of_one_decision_differ_and_are_the_same_each_time():
    def keys():
        what = carried(Action.SCHEDULE)
        return [plan.key for plan in first_wave(lead(), what) + second_wave(lead(), what, BOOKED)]

    assert keys() == keys()
    assert len(set(keys())) == 4


def test_the_note_waits_for_its_contact_and_the_meeting_mail_for_the_booking():
    assert second_wave(lead(), carried(Action.SCHEDULE), {}) == []
    note = second_wave(lead(), carried(Action.RESPOND), {"crm_upsert": {"id": "con_9"}})
    assert note[0].args["contact_id"] == "con_9"
    assert "because" in note[0].args["text"]


def test_a_meeting_mail_names_the_time_that_was_booked():
    what = carried(Action.SCHEDULE, reply="We meet {slot}.", subject="Meeting {slot}")
    mail = second_wave(lead(), what, BOOKED)[-1].args
    assert mail["body"] == "We meet 2026-11-04 09:00 (UTC+00:00)."
    assert mail["subject"] == "Meeting 2026-11-04 09:00 (UTC+00:00)"


def test_a_meeting_mail_names_the_time_also_where_the_model_forgot_it():
    mail = second_wave(lead(), carried(Action.SCHEDULE, reply="See you soon."), BOOKED)[-1].args
    assert "2026-11-04 09:00" in mail["body"]


def test_a_meeting_without_a_slot_is_an_error():
    with pytest.raises(ValueError, match="without a slot"):
        first_wave(lead(), Carried("dec_1", Action.SCHEDULE, "r", "s", "Hello", None))


def test_a_time_is_spoken_with_its_offset():
    berlin = timezone(timedelta(hours=1))
    assert spoken(datetime(2026, 11, 4, 10, 30, tzinfo=berlin)) == "2026-11-04 10:30 (UTC+01:00)"
    assert spoken(datetime(2026, 11, 4, 9, 30, tzinfo=UTC)) == "2026-11-04 09:30 (UTC+00:00)"


@given(slots=SLOTS, wished=st.none() | MOMENTS)
def test_the_slot_is_the_nearest_to_the_wish_or_else_the_earliest(slots, wished):
    picked = pick_slot(slots, wished)
    if not slots:
        assert picked is None
    elif wished is None:
        assert picked.start == min(slot.start for slot in slots)
    else:
        assert abs(picked.start - wished) == min(abs(slot.start - wished) for slot in slots)
