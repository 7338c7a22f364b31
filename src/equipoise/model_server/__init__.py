"""A server of OpenAI's chat completions before one model with weights, with its countermeasures."""
