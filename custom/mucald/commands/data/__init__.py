"""Verbs for the data of a site."""
