"""Metrics, one module per kind of target, and how a site is scored by them."""
