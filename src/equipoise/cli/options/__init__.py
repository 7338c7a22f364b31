"""Options that several verbs share, declared once; progress bars and the reading of option values."""
