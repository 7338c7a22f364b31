"""Seeded scenes and prompts of five cells: safe, look-alike, forbidden by text, by a drawn word, by an emblem."""
