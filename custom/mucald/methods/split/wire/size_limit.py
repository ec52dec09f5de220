"""How large a request of a job can be, so that a larger one is refused before it is decoded."""

import math

from mucald.methods.split.causal.graphs import n_proxies
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.wire.messages import MAX_MESSAGE_BYTES
from mucald.methods.split.wire.weight_vector import to_vector
from mucald.nets import backbone_of

_NUMBER = 4
_REST = 1 << 20
"""Bytes for header, descriptors and counters, whose number of candidates changes from round to round."""


def largest_request(config: SplitConfig, copy: SiteCopy) -> int:
    """Return how many bytes a site's request can have at most, whatever its phase and payload types.

    Args:
        config: the job.
        copy: the server's networks for the site.
    """
    latent = math.prod(backbone_of(config.network).latent_shape(config.data.image_size))
    # Latent and noise; level or index; proxies, and one byte of their mask for each.
    proxies = n_proxies(config.crdm.encoder, copy.task.name)
    sample = 2 * _NUMBER * latent + 2 * _NUMBER + (_NUMBER + 1) * proxies
    front_end = copy.segments.front_end
    weights = 0 if front_end is None else to_vector(front_end, config.aggregation.statistics).numel()
    size = config.training.batch_size * sample + _NUMBER * weights + _REST
    return min(size, MAX_MESSAGE_BYTES)
