"""Other APIs over the one chat call: legacy completions, OpenAI's responses and Anthropic's messages."""
