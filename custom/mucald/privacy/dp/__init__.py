"""Differential privacy of trained weights: clipped and noised gradients, their schedule, and the ledger."""
