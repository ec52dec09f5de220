"""Synthetic embeddings stand for data: sites train a generator under differential privacy and share it."""

from mucald.methods.generative.family import GenerativeFamily

FAMILY = GenerativeFamily()
