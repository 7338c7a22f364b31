"""What may happen to a picture on its way to a model: seeded, differentiable, 8-bit in value."""
