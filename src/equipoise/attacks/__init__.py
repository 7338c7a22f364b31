"""Perturbations of pictures, within a budget that is measured on the saved file."""
