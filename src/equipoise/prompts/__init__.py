"""Safety prompts: policies that change what a model is asked, and soft prompts optimised in representation space."""
