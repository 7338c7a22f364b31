"""Training of defences: denoisers for purification, adversarially trained models."""
