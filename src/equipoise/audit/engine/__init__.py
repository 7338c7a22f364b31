"""The engine: suites are asked, and replies judged, as evaluations of inspect_ai."""
