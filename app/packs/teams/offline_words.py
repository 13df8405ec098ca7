"""What the offline members say of a look-up: figures and quotes of its result, nothing beyond them."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.conversation.offline import PassageFacts, QuotingAnswer, TurnFacts
from app.packs.teams.client_tools import ACCOUNT_CONTEXT, CLIENT_HEALTH, CLIENT_LIST, CLIENT_SIGNALS, CODE_ACTIVITY
from app.packs.teams.offline_calls import Case, Look, scalars, worst

_CITED: Final = re.compile(r"\s*\[(\d+)\]")
_NAMED: Final = 5
_QUOTED: Final = 160
_FACTORS: Final = 2


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence or more, what it rests on, and what it lacks."""

    text: str
    evidence: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Teller:
    """Puts results into words. Raises nothing for a result of another shape: it is told by its fields."""

    def __init__(self, quoting: QuotingAnswer) -> None:
        self._quoting = quoting
        self._own: Mapping[str, Callable[[Look, Case], Said]] = {
            CLIENT_LIST: _clients,
            CLIENT_HEALTH: _health,
            CLIENT_SIGNALS: _signals,
            ACCOUNT_CONTEXT: _account,
            CODE_ACTIVITY: _code,
            "list_leads": _leads,
            "find_lead": _lead,
            "knowledge_search": self._passages,
            "treatment_decision": _decision,
            "treatment_run": _run,
        }

    def tell(self, look: Look, case: Case) -> Said:
        if look.problem:
            return Said("", missing=(look.problem,))
        own = self._own.get(look.tool)
        try:
            return _anything(look) if own is None else own(look, case)
        except (KeyError, TypeError, IndexError, AttributeError):
            return _anything(look)

    def _passages(self, look: Look, case: Case) -> Said:
        facts = [
            PassageFacts(
                number=number, chunk_id=row["id"], title=row["title"], text=row["text"], score=row["score"], weak=False
            )
            for number, row in enumerate(look.result, 1)
        ]
        said = self._quoting.answer(TurnFacts(question=case.part, query=case.part, passages=tuple(facts)))
        numbers = [int(number) for number in _CITED.findall(said)]
        if not numbers:
            return Said("", missing=("No page of ours answers it.",))
        cited = list(dict.fromkeys(facts[number - 1].chunk_id for number in numbers))
        return Said(_CITED.sub("", said), tuple(cited))


def _anything(look: Look) -> Said:
    lines = scalars(look.result, _NAMED)
    if not lines:
        return Said("", missing=(f"The look-up '{look.tool}' gave nothing.",))
    return Said(f"{look.tool} gave {'; '.join(lines)}.", (look.source,))


def _clients(look: Look, _case: Case) -> Said:
    clients = look.result["clients"]
    if not clients:
        return Said("", missing=("There are no clients yet.",))
    states = Counter(row["state"] for row in clients)
    counted = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.most_common())
    lowest = worst(clients)
    if not lowest:
        return Said(f"Of {len(clients)} clients none is at risk or to be watched ({counted}).", (look.source,))
    named = ", ".join(f"{row['name']} ({row['score']:.0f} of 100)" for row in lowest)
    state = lowest[0]["state"].replace("_", " ")
    text = f"Of {len(clients)} clients ({counted}), the lowest scores are {state}: {named}."
    return Said(text, (look.source, *(row["id"] for row in lowest)))


def _health(look: Look, _case: Case) -> Said:
    name, health = look.result["client"], look.result["health"]
    if health is None:
        return Said("", missing=(f"{name} has no health score yet.",))
    factors = sorted(health["factors"], key=lambda one: one["points"] - 100 * one["weight"])[:_FACTORS]
    reasons = " ".join(f"{one['name'].capitalize()}: {_whole(one['sentence'])}" for one in factors)
    trend = health["trend"]
    moved = f", {trend['change']:+.0f} against a month ago" if trend else ""
    text = f"{name} has {health['score']:.0f} of 100, {health['state'].replace('_', ' ')}{moved}. {reasons}"
    return Said(text, (look.source,), tuple(f"{name}: {note}" for note in health["notes"]))


def _signals(look: Look, _case: Case) -> Said:
    name, waiting = look.result["client"], look.result["open_tickets"]
    unhappy = [row for row in look.result["signals"] if row.get("mood") == "unhappy"]
    text = f"{name} has no open ticket."
    if waiting:
        oldest = waiting[0]
        text = f"{name} has {_count(len(waiting), 'open ticket')}, the oldest for {oldest['days_open']} days: "
        text += "; ".join(_ticket(row) for row in waiting[:_NAMED]) + "."
    if unhappy:
        text += f" Its last unhappy message: “{_cut(unhappy[0]['text'])}”"
    return Said(text, (look.source, *(row["id"] for row in unhappy[:1])))


def _ticket(row: Mapping[str, Any]) -> str:
    priority = f" ({row['priority']})" if row.get("priority") else ""
    return f"“{_cut(row.get('text', row.get('ref', '')))}”{priority}"


def _account(look: Look, _case: Case) -> Said:
    name = look.result["client"]
    if "problem" in look.result:
        return Said("", missing=(f"{name}: {look.result['problem']}",))
    deals = [row for row in look.result["deals"] if not row.get("closed")]
    parts = [_count(len(deals), "open deal") + (": " + "; ".join(map(_deal, deals[:_NAMED])) if deals else "")]
    parts += [f"the last note says “{_cut(row['text']).rstrip('.')}”" for row in look.result["notes"][:1]]
    ids = [row["id"] for row in (*deals[:_NAMED], *look.result["notes"][:1])]
    return Said(f"{name} has {', and '.join(parts)}.", tuple(ids) or (look.source,))


def _deal(row: Mapping[str, Any]) -> str:
    closes = f", closes {row['closes_at'][:10]}" if row.get("closes_at") else ""
    amount = f", {row['amount']} {row.get('currency', '')}".rstrip() if row.get("amount") else ""
    return f"{row['name']} ({row['stage']}{amount}{closes})"


def _code(look: Look, _case: Case) -> Said:
    name = look.result["client"]
    if "problem" in look.result:
        return Said("", missing=(f"{name}: {look.result['problem']}",))
    counts = ", ".join(_count(count, kind.replace("_", " ")) for kind, count in look.result["counts"].items() if count)
    issues = [row for row in look.result["items"] if row["kind"] == "issue" and row.get("state") == "open"]
    text = f"In {name}'s repository there were {counts or 'no events'}."
    if issues:
        text += " Open issues: " + "; ".join(f"#{row['id']} {_cut(row['title'])}" for row in issues[:_NAMED]) + "."
    return Said(text, tuple(row["id"] for row in issues[:_NAMED]) or (look.source,))


def _leads(look: Look, _case: Case) -> Said:
    leads = look.result["leads"]
    if not leads:
        return Said("", missing=("There are no leads.",))
    counts = Counter(row["status"] for row in leads)
    counted = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    scored = sorted((row for row in leads if row["score"] is not None), key=lambda row: -row["score"])[: _FACTORS + 1]
    text = f"Of the newest {f'{len(leads)} leads' if len(leads) > 1 else 'lead'} {counted}."
    if scored:
        text += " The most likely to convert: " + ", ".join(map(_likely, scored)) + "."
    return Said(text, (look.source, *(row["id"] for row in scored)))


def _likely(row: Mapping[str, Any]) -> str:
    return f"{row['name']}{', ' + row['company'] if row['company'] else ''} ({row['score']:.0%}, {row['status']})"


def _lead(look: Look, _case: Case) -> Said:
    leads: Sequence[Mapping[str, Any]] = look.result["leads"]
    if not leads:
        return Said("", missing=("No such lead is stored.",))
    lead = leads[0]
    last = lead["timeline"][-1]["what"] if lead["timeline"] else "nothing happened yet"
    company = f" of {lead['company']}" if lead["company"] else ""
    return Said(f"{lead['name']}{company} is {lead['status']}; last: {_cut(last)}.", (lead["id"],))


def _decision(look: Look, _case: Case) -> Said:
    customer, decisions = look.result["customer"], look.result["decisions"]
    if not decisions:
        return Said(f"Nothing was decided for customer {customer} yet.", (look.source,))
    result = decisions[0]["result"]
    text = (
        f"Customer {customer}: {result['treatment'] or 'no treatment'} ({result['state']}). {_whole(result['reason'])}"
    )
    return Said(text, (look.source,))


def _run(look: Look, _case: Case) -> Said:
    run = look.result
    done = f", {run['decided']} of {run['total']} customers decided" if "decided" in run and "total" in run else ""
    return Said(f"The run {run['id']} is {run['state']}{done}.", (look.source,))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _whole(sentence: str) -> str:
    sentence = sentence.strip()
    return sentence if sentence.endswith((".", "!", "?")) or not sentence else f"{sentence}."


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…"
