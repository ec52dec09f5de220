"""Embeddings: what a frozen network makes of images, kept as sets in place of the images themselves."""
