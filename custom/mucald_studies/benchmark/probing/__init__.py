"""Counts the time of a training step by its parts, in whichever process they run."""
