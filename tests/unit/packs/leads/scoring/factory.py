"""Leads with a known way of converting, for the tests of the score."""

import random

Lead = dict[str, object]


def leads(rows: int = 600, seed: int = 7, late_shift: float = 0.0) -> list[Lead]:
    """Referred leads of large companies convert more often; `late_shift` is added to the rate of the last half."""
    draw = random.Random(seed)
    made: list[Lead] = []
    for index in range(rows):
        employees, source = draw.choice([3, 40, 400, 4000]), draw.choice(["referral", "web_form", "import"])
        rate = 0.1 + 0.3 * (employees >= 400) + 0.25 * (source == "referral")
        rate += late_shift if index >= rows // 2 else 0.0
        made.append(
            {
                "employees": employees,
                "source": source,
                "budget_usd": None if draw.random() < 0.3 else draw.randrange(100, 90_000),
                "won": "yes" if draw.random() < rate else "no",
            }
        )
    return made
