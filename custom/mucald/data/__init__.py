"""A site's data: readers and layouts of image sets, phantoms, proxies, splits."""
