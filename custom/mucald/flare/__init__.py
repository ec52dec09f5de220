"""Thin adapters that carry the protocol of split learning over NVIDIA FLARE."""
