"""Streamed replies, held back until they are judged."""
