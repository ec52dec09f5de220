"""CRDM, DACA and the mixture of middle networks."""
