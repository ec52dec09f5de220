"""Networks of linear layers on embeddings, whose per-sample gradients have norms in closed form."""
