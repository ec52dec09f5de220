"""Thin adapters that carry a federation's tasks and steps over NVIDIA FLARE."""
