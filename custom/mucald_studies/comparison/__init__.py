"""One comparison across families: what each achieves beside what it discloses, on the same sites."""
