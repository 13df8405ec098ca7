"""Markdown as sentences that can be quoted by themselves."""

from app.knowledge.sentences import quotable


def texts(markdown: str) -> list[str]:
    return [sentence.text for sentence in quotable(markdown) if sentence.first == sentence.last]


def test_a_sentence_that_its_author_broke_over_lines_is_one():
    wrapped = "Up to five days may be carried into the next\nyear; they end on 31 March. The rest is\nlost."
    assert texts(wrapped) == [
        "Up to five days may be carried into the next year; they end on 31 March.",
        "The rest is lost.",
    ]


def test_what_begins_a_line_of_its_own_is_not_joined_to_the_line_before():
    page = (
        "# Leave\nEverybody has\n28 days.\n\n- Ask your lead\n  two weeks before.\n- Sick days are no leave.\n"
        "**Carry-over** ends in March."
    )
    assert texts(page) == [
        "Leave",
        "Everybody has 28 days.",
        "Ask your lead two weeks before.",
        "Sick days are no leave.",
        "Carry-over: ends in March.",
    ]


def test_a_hard_break_stays_a_break():
    assert texts("Mondays from nine  \nTuesdays from ten") == ["Mondays from nine", "Tuesdays from ten"]


def test_rows_of_a_table_are_spelled_out_each():
    assert texts("| Grade | Days |\n|---|---|\n| Junior | 28 |\n| Senior | 30 |\nAnd so\non.") == [
        "Junior: Days 28",
        "Senior: Days 30",
        "And so on.",
    ]
