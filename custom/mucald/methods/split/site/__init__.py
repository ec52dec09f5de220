"""The site's half: release, segments, training."""
