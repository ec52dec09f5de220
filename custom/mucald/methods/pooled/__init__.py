"""Multi-task training on the data of all sites in one place: what one would get if data could move."""

from mucald.methods.pooled.family import PooledFamily

FAMILY = PooledFamily()
