"""The embedded world: procedural scenes, questions with exact answers, and the reference models trained on them."""
