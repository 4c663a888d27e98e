"""Where programs for the memory-mapping game come from."""
