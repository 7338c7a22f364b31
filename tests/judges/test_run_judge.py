"""Hashes of what decides a verdict."""

from __future__ import annotations

import hashlib

from equipoise.judges.run_judge import digest


def test_a_digest_takes_half_a_surrogate_pair() -> None:
    assert digest(["\ud800"]) != digest(["\ud801"])
    assert digest(["ä"]) == hashlib.sha256('["ä"]'.encode()).hexdigest()
