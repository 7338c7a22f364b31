"""Both failures of a model on one page: the run, its statistics, the gate."""
