"""Images: readers, geometry, phantoms."""
