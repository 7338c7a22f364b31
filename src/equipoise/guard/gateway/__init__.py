"""The gateway: an OpenAI-compatible server before an upstream model, with the guard between them."""
