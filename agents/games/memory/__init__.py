"""The memory-mapping game: which accesses of a program go to fast memory, and when data are copied there."""
