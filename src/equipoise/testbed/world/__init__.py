"""Seeded scenes and the prompts of four cells: plain safe, look-alike safe, forbidden in text, forbidden in the picture."""
