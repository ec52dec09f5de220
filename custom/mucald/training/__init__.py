"""Training of a network that one party holds whole."""
