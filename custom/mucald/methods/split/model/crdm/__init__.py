"""Causal representation and diffusion (CRDM): what the server runs before and behind the middle network."""
