from __future__ import annotations

from equipoise.served_models.backoff import LONGEST_PAUSE, Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(1.0)
    pauses = [backoff.seconds() for _ in range(10)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_server_s_wish_goes_first_within_the_longest() -> None:
    backoff = Backoff(1.0)
    assert [backoff.seconds(0.0), backoff.seconds(7.0), backoff.seconds(9999.0)] == [0, 7, LONGEST_PAUSE]
