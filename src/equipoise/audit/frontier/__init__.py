"""The frontier: one model plain and under mitigations, on one test split, with one judge, on both axes."""
