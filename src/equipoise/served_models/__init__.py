"""The client of models behind OpenAI's protocol, for judges and for the target of an audit."""
