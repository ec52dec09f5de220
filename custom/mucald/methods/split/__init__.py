"""Split learning: MuCALD-SplitFed (ICIP 2026), its ablations and baselines."""

from mucald.methods.split.family import SplitFamily

FAMILY = SplitFamily()
