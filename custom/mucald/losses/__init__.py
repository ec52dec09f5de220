"""Training losses, one module per kind of target."""
