"""Seeded, differentiable changes of pictures, 8-bit in value."""
