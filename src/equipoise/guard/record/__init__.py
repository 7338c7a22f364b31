"""The audit record: what was decided about which request, append-only, each entry chained to the one before."""
