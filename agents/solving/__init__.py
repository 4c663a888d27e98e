"""Solving one instance of a game as a user would: a time limit, several starts at once, the best plan kept.

`task` is what a game offers, `race` runs its searches side by side, `report` says how it went; a module a
game ties it together.
"""
