"""Tensors as bytes, and the record of what crossed."""
