"""What is done with many runs: carrying them out, and one report on all of them."""
