"""Equipoise audits, attacks and defends multimodal LLMs: harmful answers and needless refusals, measured together."""

__version__ = "0.1.0"
