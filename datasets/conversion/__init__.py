"""Other programs' data into our episode stores, and our stores into theirs.

A source is read into a `Plan` (`plan.py`): which episodes of which files make up one store, and what is left
out and why. `engine.py` carries a plan out: worker processes write a part for every source file, finished
parts survive a kill, and the parts are merged into the store. The command line is `datasets/convert.py`.
"""
