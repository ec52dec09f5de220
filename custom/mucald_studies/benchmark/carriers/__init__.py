"""Ways to carry bytes between two processes, and the processes that do it."""
