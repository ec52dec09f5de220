"""Split learning: MuCALD-SplitFed, its ablations and baselines."""
