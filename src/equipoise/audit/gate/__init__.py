"""The gate: limits on the rates of a run, one verdict from them, and every form in which a CI wants to read it."""
