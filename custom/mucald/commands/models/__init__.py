"""Verbs for trained models."""
