"""What inspect finds through the entry point `inspect_ai`: our model provider, scorers and tasks."""
