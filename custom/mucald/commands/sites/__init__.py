"""Verbs for a federation of real sites."""
