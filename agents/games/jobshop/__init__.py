"""Job shop: dispatch one operation at a time so that all are done soon.

`instance` reads and checks, `rules` are the exact rules, `validator` judges a finished schedule without
them, `heuristics` and `cpsat` are the methods to compare with, `planning` and `environment` offer the
game to planners and agents, `search` is the beam search, `drawing` and `solution` are what a user gets.
"""
