"""Further readings of a text: what a person reads in letters that a detector does not know.

`readings` is the entry point. `typography` undoes what only looks different, `letter_gaps` puts words together whose
letters stand apart, `leetspeak` reads digits and signs as letters, `encodings` and `ciphers` decode,
`json_words` reads JSON, `vocabulary` knows words.
"""
