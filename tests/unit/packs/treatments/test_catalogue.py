"""What a catalogue of treatments may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.packs.treatments.catalogue import CatalogueIn

CALL = {"name": "call", "title": "A call"}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"treatments": [CALL, CALL]}, "'call' is there twice"),
        ({"floors": [{"group": "old", "share": 0.1, "treatment": "visit"}]}, "'visit', which the catalogue does not"),
        (
            {"floors": [{"group": "old", "share": 0.1}, {"group": "old", "share": 0.5}]},
            "the group 'old' has two floors for any treatment: keep the higher",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        CatalogueIn.model_validate({"treatments": [CALL], **parts})


def test_a_group_may_be_owed_a_treatment_and_any() -> None:
    floors = [{"group": "old", "share": 0.5}, {"group": "old", "share": 0.1, "treatment": "call"}]
    assert len(CatalogueIn.model_validate({"treatments": [CALL], "floors": floors}).floors) == 2
