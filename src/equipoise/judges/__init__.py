"""Judges label replies: refusal, kind of refusal, harm, right answers; with agreement cards and calibration."""
