"""Statistics of rates and scores: intervals, paired changes, agreement, thresholds, power."""
