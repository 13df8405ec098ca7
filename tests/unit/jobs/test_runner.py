"""What a step gives and what a failure says, in a first run as in a replay."""

import asyncio
from typing import Any

import pytest
from dbos import PortableWorkflowError
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.runner import Context, _reason, as_json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_a_json_value_comes_back_as_it_is(value: Any) -> None:
    assert as_json("Step 'x'", value) == value


def test_a_tuple_comes_back_as_a_replay_would_give_it() -> None:
    assert as_json("Step 'x'", {"pair": (1, 2)}) == {"pair": [1, 2]}


def test_what_is_not_json_is_refused_with_the_owners_name() -> None:
    with pytest.raises(TypeError, match="Step 'x' returned something that is not JSON"):
        as_json("Step 'x'", object())


def test_a_recorded_error_reads_as_it_did_when_it_was_raised() -> None:
    assert _reason(ValueError("away")) == "ValueError: away"
    assert _reason(PortableWorkflowError("away", "ValueError")) == "ValueError: away"


class Client:
    """Takes the progress that would be written."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    async def update_workflow_attributes_async(self, _job_id: str, attributes: dict[str, Any]) -> None:
        self.told.append((attributes["progress"]["done"], attributes["progress"]["total"]))


async def test_progress_is_thinned_out_but_its_first_and_last_word_are_kept() -> None:
    client = Client()
    context = Context("j", client)  # type: ignore[arg-type]
    for done in range(1, 1001):
        await context.progress(done, 1000)
    assert client.told[0] == (1, 1000)
    assert client.told[-1] == (1000, 1000)
    assert len(client.told) < 100
    context._told_at = asyncio.get_running_loop().time() - 3600
    await context.progress(5, 0)
    assert client.told[-1] == (5, 0)
