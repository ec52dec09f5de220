"""Causal graphs and the proxies that they relate."""
