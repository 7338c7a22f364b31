"""Equipoise measures, attacks and defends both failures of multimodal LLMs."""

__version__ = "0.1.0"
