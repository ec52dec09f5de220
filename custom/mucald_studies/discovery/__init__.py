"""Causal graph discovery: learn a directed acyclic graph over the proxies of a task (NOTEARS)."""
