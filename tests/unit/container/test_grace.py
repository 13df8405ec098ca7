"""One time of grace for all that ends."""

from app.container.grace import Grace


def test_the_time_runs_from_the_first_beginning_and_is_shared() -> None:
    now = [100.0]
    grace = Grace(10, lambda: now[0])
    now[0] = 150.0
    assert (grace.left(), grace.left(0.8)) == (10, 8)  # not begun
    grace.begin()
    now[0] += 3
    grace.begin()
    assert (grace.left(), grace.left(0.8)) == (7, 5)
    now[0] += 6
    assert (grace.left(), grace.left(0.8)) == (1, 0)
