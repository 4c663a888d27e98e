"""Single-player games whose solutions save time on real machines: memory mapping, packing, job shop.

The rules of a game know nothing of networks, agents or planners; each game's `planning` module offers them
as a `planning.model.PlanningModel`.
"""
