"""Ids sort by the time of their making."""

from app.ids import new_id


def test_ids_are_unique_and_of_one_shape() -> None:
    ids = [new_id("lead") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert {len(one) for one in ids} == {len("lead_") + 26}
    assert all(one.startswith("lead_") and one[5:].isalnum() and one.islower() for one in ids)


def test_ids_sort_in_the_order_of_their_making() -> None:
    ids = [new_id("x") for _ in range(1_000)]
    assert ids == sorted(ids)
