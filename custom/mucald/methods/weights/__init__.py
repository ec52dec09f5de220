"""Weights travel: every site trains a whole network, and the server combines what the sites share of it."""

from mucald.methods.weights.family import WeightsFamily

FAMILY = WeightsFamily()
