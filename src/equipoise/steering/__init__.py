"""Refusal inside the model: find its direction in the residual stream, measure it, steer with it in memory."""
