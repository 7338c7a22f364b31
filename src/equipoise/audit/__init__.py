"""The audit: runs and their folders, summaries and comparisons, warnings, the gate, the frontier of mitigations."""
