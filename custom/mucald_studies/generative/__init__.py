"""How good and how private synthetic embeddings are."""
