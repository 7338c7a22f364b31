"""Pictures as files: decoding with limits, encoding as PNG and data URL, and 8-bit values of float pixels."""
