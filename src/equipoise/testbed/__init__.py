"""The embedded world: scenes, questions, and the reference models trained on them."""
