"""The audit's report: both failures of a model on one page that opens offline."""
