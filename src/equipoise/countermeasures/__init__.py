"""Defences around a model, each a model again: every attack and audit applies to it unchanged."""
