"""Verbs for jobs and their runs."""
