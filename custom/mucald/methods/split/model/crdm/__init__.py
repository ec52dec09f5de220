"""Causal representation and diffusion (CRDM): the parts of the method that run between two splits."""
