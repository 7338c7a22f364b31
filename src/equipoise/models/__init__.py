"""Models: loading, prompts as tokens, generation, and reply probabilities with gradients in the pixels."""
