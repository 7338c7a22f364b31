"""Input data: pictures, questions about them, loaders of suites, and splits without overlap."""
