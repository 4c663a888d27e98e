"""Episodes of Atari: playing and collecting, stores, segments and batches."""
