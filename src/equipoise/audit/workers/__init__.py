"""An audit of a local model whose prompts are divided among workers."""
