"""The sample that ships: complete, consistent with itself, and in no way real."""

import json
import re
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

import app.packs.leads
from app.packs.leads.models import Action
from app.packs.leads.schemas import LeadIn

PACK = Path(app.packs.leads.__file__).parent
KNOWLEDGE = sorted((PACK / "sample" / "knowledge").glob("*.md"))
LEADS_FILE = PACK / "sample" / "leads.jsonl"
LABELS_FILE = PACK / "evals" / "labels.jsonl"
INJECTIONS_FILE = Path(__file__).parents[3] / "data" / "injections.yaml"
LEAD_FIELDS = {
    "external_id", "name", "email", "company", "phone", "language", "source", "country", "message", "attributes",
}  # fmt: skip
LABEL_FIELDS = {"external_id", "expected_action", "acceptable", "escalation_necessary", "evidence", "why"}
AIMS = {
    "email_send", "crm_upsert", "crm_note", "calendar_book",
    "leak_prompt", "leak_secrets", "leak_contacts", "exfiltrate_url", "wrong_decision",
}  # fmt: skip
HOST = re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)+)|https?://([\w.-]+)", re.ASCII)


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def split_page(path: Path) -> tuple[dict[str, Any], str]:
    opening, front_matter, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert opening == "", f"{path.name} does not begin with front matter"
    return yaml.safe_load(front_matter), body


def hosts(text: str) -> set[str]:
    return {(mail or url).rstrip(".") for mail, url in HOST.findall(text)}


LEADS = json_lines(LEADS_FILE)
LABELS = json_lines(LABELS_FILE)
INJECTIONS = yaml.safe_load(INJECTIONS_FILE.read_text(encoding="utf-8"))


def body_of(slug: str) -> str:
    return split_page(PACK / "sample" / "knowledge" / f"{slug}.md")[1]


def plan_prices() -> list[str]:
    row = re.search(r"Price per sensor per month, EUR \|(.+)\|", body_of("pricing"))
    assert row is not None
    return re.findall(r"\d+\.\d\d", row[1])


def test_there_are_at_least_28_pages_and_48_leads() -> None:
    assert len(KNOWLEDGE) >= 28
    assert len(LEADS) >= 48


@pytest.mark.parametrize("path", KNOWLEDGE, ids=lambda p: p.stem)
def test_a_page_has_front_matter_a_heading_and_a_readable_length(path: Path) -> None:
    front_matter, body = split_page(path)
    assert set(front_matter) == {"title", "slug", "tags", "updated"}
    assert front_matter["slug"] == path.stem
    assert isinstance(front_matter["updated"], date)
    assert front_matter["tags"]
    assert all(isinstance(tag, str) for tag in front_matter["tags"])
    assert body.splitlines()[0] == f"# {front_matter['title']}"
    assert 150 <= len(body.split()) <= 500


def test_page_titles_are_unique() -> None:
    assert max(Counter(split_page(path)[0]["title"] for path in KNOWLEDGE).values()) == 1


@pytest.mark.parametrize("lead", LEADS, ids=lambda lead: lead["external_id"])
def test_a_lead_has_every_field_and_is_accepted_by_the_intake(lead: dict[str, Any]) -> None:
    assert set(lead) == LEAD_FIELDS
    LeadIn.model_validate(lead)
    assert re.fullmatch(r"[A-Z]{2}", lead["country"])


@pytest.mark.parametrize("field", ["external_id", "email", "message"])
def test_no_two_leads_share_an_id_an_address_or_a_message(field: str) -> None:
    assert [value for value, n in Counter(lead[field] for lead in LEADS).items() if n > 1] == []


def test_leads_come_in_many_languages_and_from_every_source() -> None:
    languages = {lead["language"].split("-")[0] for lead in LEADS}
    assert languages >= {"en", "de", "fr", "es", "pt", "it", "nl", "pl", "ja"}
    assert {lead["source"] for lead in LEADS} == {"web_form", "email", "event", "referral", "partner", "import"}
    lengths = sorted(len(lead["message"]) for lead in LEADS)
    assert lengths[0] < 10
    assert lengths[-1] > 800


def test_each_lead_has_one_label_and_each_label_its_lead() -> None:
    assert [label["external_id"] for label in LABELS] == [lead["external_id"] for lead in LEADS]


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label["external_id"])
def test_a_label_names_known_actions_and_existing_pages(label: dict[str, Any]) -> None:
    assert set(label) == LABEL_FIELDS
    actions = [label["expected_action"], *label["acceptable"]]
    assert len(actions) == len(set(actions))
    assert set(actions) <= {action.value for action in Action}
    assert label["escalation_necessary"] is (label["expected_action"] == "escalate")
    assert set(label["evidence"]) <= {path.stem for path in KNOWLEDGE}
    assert label["why"].endswith(".")


def test_every_action_is_expected_of_several_leads() -> None:
    expected = Counter(label["expected_action"] for label in LABELS)
    assert {action.value for action in Action} == set(expected)
    assert min(expected.values()) >= 5


def test_an_answer_or_a_meeting_always_rests_on_evidence() -> None:
    answered = [label for label in LABELS if label["expected_action"] in ("respond", "schedule")]
    assert [label["external_id"] for label in answered if not label["evidence"]] == []


@pytest.mark.parametrize("path", [*KNOWLEDGE, LEADS_FILE, LABELS_FILE, INJECTIONS_FILE], ids=lambda p: p.name)
def test_every_address_is_fictional_and_no_text_is_filler(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert {host for host in hosts(text) if not host.endswith(".example")} == set()
    assert re.search(r"lorem|ipsum|dolor sit", text, re.IGNORECASE) is None


def test_the_only_card_number_is_the_usual_test_number() -> None:
    found = re.findall(r"\b(?:\d{4}[ -]?){3}\d{4}\b", LEADS_FILE.read_text(encoding="utf-8"))
    assert found == ["4111 1111 1111 1111"]


@pytest.mark.parametrize("slug", [p.stem for p in KNOWLEDGE if p.stem.startswith("faq-")])
def test_the_pages_in_other_languages_quote_the_same_plan_prices(slug: str) -> None:
    prices = plan_prices()
    assert len(prices) == 3
    plans = zip(("Start", "Operate", "Regulated"), prices, strict=True)
    assert all(re.search(rf"{plan} (?:€ )?{price.replace('.', ',')}", body_of(slug)) for plan, price in plans)


def test_the_worked_examples_follow_from_the_price_list() -> None:
    start, operate, regulated = (float(price) for price in plan_prices())
    pricing = body_of("pricing")
    assert f"€{12 * start:.2f} a month" in pricing
    assert f"€{40 * operate:.2f} a month" in pricing
    assert f"€{40 * operate * 1.15:.2f} a month" in pricing
    assert f"€{120 * regulated * 0.95:,.2f} a month" in pricing
    assert f"{38 * operate:.2f} a month; with the 50 % food bank discount it is €{38 * operate / 2:.2f}" in (
        body_of("case-study-food-bank")
    )
    assert f"less 5 % for volume: €{210 * regulated * 0.95:,.2f}" in body_of("case-study-hospital-pharmacy")


def test_the_unreturned_trial_kit_costs_its_list_price() -> None:
    prices = dict(re.findall(r"\| (Tag T2|Hub H4), [^|]+\| €(\d+)", body_of("hardware-price-list")))
    kit = 5 * int(prices["Tag T2"]) + int(prices["Hub H4"])
    assert f"= €{kit}." in body_of("free-trial")
    assert f"€ {kit} " in body_of("faq-nederlands")


def test_the_injections_are_distinct_and_say_what_they_aim_at() -> None:
    assert len(INJECTIONS) >= 30
    assert all(set(case) == {"id", "where", "text", "aims_at"} for case in INJECTIONS)
    assert {case["where"] for case in INJECTIONS} == {"message", "knowledge"}
    assert {case["aims_at"] for case in INJECTIONS} == AIMS
    assert len({case["id"] for case in INJECTIONS}) == len({case["text"] for case in INJECTIONS}) == len(INJECTIONS)


def test_no_injection_ships_in_the_knowledge() -> None:
    shipped = "".join(path.read_text(encoding="utf-8") for path in KNOWLEDGE)
    assert [case["id"] for case in INJECTIONS if case["text"] in shipped] == []
    assert "<!--" not in shipped
