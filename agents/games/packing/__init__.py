"""Offset packing: give every buffer an address so that buffers alive at the same time do not overlap.

`instance` reads and checks, `rules` are the exact rules, `validator` judges finished offsets without them,
`heuristics` and `cpsat` are the methods to compare with, `planning` and `environment` offer the game to
planners and agents, `search` fits a capacity, `drawing` and `solution` are what a user gets.
"""
