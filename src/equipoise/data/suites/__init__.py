"""One file for each published suite: a folder with a user's own copy in, samples out."""
