"""The bank's telephone campaigns (Moro, Cortez and Rita 2014, UCI Bank Marketing): columns, and a banker's rules."""

from typing import Final

from app.packs.leads.scoring.rules import Rule, RuleSet, one_of, within

FILE_NAME: Final = "bank_contacts.csv"
OUTCOME: Final = "deposit"
COLUMNS: Final = (
    "age",
    "job",
    "marital",
    "education",
    "default",
    "balance",
    "housing",
    "loan",
    "contact",
    "day",
    "month",
    "campaign",
    "pdays",
    "previous",
    "poutcome",
)
# The way of contact is not recorded in the first 12,600 contacts: it names the campaign, like the month.
LEFT_OUT: Final = frozenset({"day", "month", "contact"})


def bank_rules() -> RuleSet:
    """What a banker would write before seeing an outcome of these campaigns."""
    return RuleSet(
        prior=0.08,
        rules=(
            Rule("took the last offer", "poutcome", one_of(("success",)), 1.5),
            Rule("declined the last offer", "poutcome", one_of(("failure",)), -0.2),
            Rule("in default", "default", one_of(("yes",)), -1.0),
            Rule("overdrawn", "balance", within(high=0), -0.7),
            Rule("balance of 1,500 or more", "balance", within(1500), 0.5),
            Rule("has a housing loan", "housing", one_of(("yes",)), -0.3),
            Rule("has a personal loan", "loan", one_of(("yes",)), -0.5),
            Rule("called four times or more", "campaign", within(4), -0.5),
            Rule("retired", "job", one_of(("retired",)), 0.4),
        ),
    )
