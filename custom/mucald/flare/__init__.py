"""Thin adapters that carry the protocol of :mod:`mucald.split` over NVIDIA FLARE."""
