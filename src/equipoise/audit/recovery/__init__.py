"""Recovery depth: does a model still refuse when its reply has begun to comply, and how far in?"""
