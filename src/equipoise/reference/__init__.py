"""Reference models that speak English: a small public language model with adapters of this project."""
