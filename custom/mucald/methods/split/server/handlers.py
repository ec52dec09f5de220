"""What the server does with the request of each phase; the table of phases says which handler answers it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mucald.data.augmentation import orientations
from mucald.errors import WireError
from mucald.methods.split.causal.graphs import n_proxies
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator
from mucald.methods.split.server.released_samples import Samples
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.wire.messages import Field, Message, Phase
from mucald.methods.split.wire.phases import Shape
from mucald.methods.split.wire.weight_vector import PIECE, flat, from_vector, to_vector
from mucald.nets import backbone_of
from mucald.state.checkpoint import without_prefix
from mucald.wire.frame import MAX_MESSAGE_BYTES

Request = Message[Phase, Field]
Fields = dict[Field, Tensor]

_NUMBER = 4
_REST = 1 << 20
"""Bytes for header, descriptors and counters, whose number of states changes from round to round."""


class Handlers:
    """Answers requests that are in their place, each by a site's copy and the request.

    Args:
        config: the job.
        discriminators: one per CRDM, frozen within a round.
    """

    def __init__(self, config: SplitConfig, discriminators: Sequence[Discriminator]):
        self._config, self._discriminators = config, discriminators
        self._latent_shape = backbone_of(config.network).latent_shape(config.data.image_size)

    def answer(self, copy: SiteCopy, request: Request) -> Fields:
        """Return what the reply to a request holds, which :meth:`check` has let through.

        Raises:
            WireError: the request names a sample, or brings weights, that do not fit.
            TrainingError: a number is not finite.
        """
        spec = request.phase.spec
        fields: Fields = getattr(self, spec.handler)(copy, request)
        return {field: tensor for field, tensor in fields.items() if field in spec.reply}

    def largest_request(self, copy: SiteCopy) -> int:
        """Return how many bytes a site's request can have at most, whatever its phase and payload types."""
        latent, nodes = math.prod(self._latent_shape), n_proxies(self._config.crdm.encoder, copy.task.name)
        # Latent and noise; level or index; proxies, and one byte of their mask for each.
        sample = 2 * _NUMBER * latent + 2 * _NUMBER + (_NUMBER + 1) * nodes
        weights = 0 if copy.segments.front_end is None else self._front_end(copy).numel()
        size = self._config.training.batch_size * sample + _NUMBER * weights + _REST
        return min(size, MAX_MESSAGE_BYTES)

    def check(self, copy: SiteCopy, fields: Fields) -> None:
        """Check the shapes of a request's tensors, and that levels exist.

        Raises:
            WireError: naming the field.
        """
        batch = most = self._config.training.batch_size
        if (latent := fields.get(Field.LATENT)) is not None:
            batch = latent.shape[0]
            if batch > most:
                raise WireError(f"batch of {batch}, at most {most} allowed")
        elif (indices := fields.get(Field.INDICES)) is not None:
            batch = min(indices.shape[0], most)
        shapes: dict[Shape | None, tuple[int, ...]] = {
            "latents": (batch, *self._latent_shape),
            "samples": (batch,),
            "proxies": (batch, n_proxies(self._config.crdm.encoder, copy.task.name)),
            "scores": (2 * len(copy.candidates),),
            "number": (1,),
        }
        for field, tensor in fields.items():
            expected = shapes.get(field.shape, tuple(tensor.shape))
            if tuple(tensor.shape) != expected:
                raise WireError(f"{field.name} has shape {tuple(tensor.shape)}, not {expected}")
        level = fields.get(Field.LEVEL)
        if level is not None and not bool(((level >= 0) & (level < self._config.release.timesteps)).all()):
            raise WireError(f"LEVEL must lie in [0, {self._config.release.timesteps - 1}]")

    def _samples(self, copy: SiteCopy, request: Request) -> Samples:
        """Return the samples of a request: those that it holds, or those that it names.

        What a site releases once is kept. Its samples are numbered in the order in which they come.
        """
        fields, data_split = request.fields, request.phase.spec.data_split
        if data_split is not None and Field.INDICES in fields:
            return copy.released.batch(data_split, fields[Field.INDICES])
        proxies = None
        if Field.PROXIES in fields and Field.PROXY_MASK in fields:
            proxies = (fields[Field.PROXIES], fields[Field.PROXY_MASK])
        samples = fields[Field.LATENT], fields[Field.LEVEL].to(torch.int64), proxies
        if self._config.release.mode == "once" and data_split is not None:
            copy.released.add(data_split, request.step * self._config.training.batch_size, samples)
        return samples

    def release(self, copy: SiteCopy, request: Request) -> Fields:
        """Keep samples of the training images for good."""
        self._samples(copy, request)
        return {}

    def evaluate(self, copy: SiteCopy, request: Request) -> Fields:
        """Return features that no gradient will follow."""
        samples, purpose = self._samples(copy, request), request.phase.spec.purpose
        return {Field.FEATURES: copy.evaluate(request.round, request.step, purpose, *samples)}

    def test(self, copy: SiteCopy, request: Request) -> Fields:
        """Return features of the best round's networks."""
        if request.step == 0:
            copy.load_best()
        return self.evaluate(copy, request)

    def report(self, copy: SiteCopy, request: Request) -> Fields:
        """Take Dice and loss of every state that the site has validated; tell what was chosen of them."""
        scores = request.fields[Field.COUNTERS].reshape(-1, 2).tolist()
        index = copy.choose([loss for _, loss in scores])
        best = float(copy.best.keep(scores[index][0]))
        counters = [best] if len(scores) == 1 else [best, index]
        return {Field.COUNTERS: torch.tensor(counters, dtype=torch.float64)}

    def train_forward(self, copy: SiteCopy, request: Request) -> Fields:
        """Begin a training step."""
        (latent, level, proxies), noise = self._samples(copy, request), request.fields.get(Field.NOISE)
        if Field.INDICES in request.fields and self._config.training.augmentation:
            step = copy.site, copy.task, request.round, request.step
            latent = orientations(self._config, *step, len(latent)).of(latent)
        features = copy.train_forward(
            request.round,
            request.step,
            latent,
            level,
            proxies,
            noise,
            self._discriminators,
            self._rate(request),
        )
        return {Field.FEATURES: features}

    def _rate(self, request: Request) -> float:
        """Return the factor of the learning rates in a training step."""
        if not self._config.training.scheduled:
            return 1.0
        steps = request.fields.get(Field.STEPS)
        if steps is None or int(steps) <= request.step:
            raise WireError(f"STEPS must tell how many steps the round of step {request.step} has")
        return self._config.rate(request.round, request.step, int(steps))

    def train_backward(self, copy: SiteCopy, request: Request) -> Fields:
        """End a training step."""
        gradient = copy.train_backward(request.step, request.fields[Field.FEATURE_GRADIENT])
        return {Field.LATENT_GRADIENT: gradient}

    def fetch_front_end(self, copy: SiteCopy, _: Request) -> Fields:
        """Return the front end that the site begins with."""
        return {Field.WEIGHTS: self._front_end(copy)}

    def give_front_end(self, copy: SiteCopy, request: Request) -> Fields:
        """Take the front end that the site has trained."""
        assert copy.segments.front_end is not None
        weights = request.fields[Field.WEIGHTS]
        from_vector(copy.segments.front_end, weights, self._config.aggregation.statistics)
        return {}

    def fetch_middle(self, copy: SiteCopy, request: Request) -> Fields:
        """Return a piece of the middle network of the site's best round, once training is over."""
        if request.round < self._config.training.rounds:
            raise WireError("the middle network is handed over after the last round")
        if request.step == 0:
            copy.load_best()
        pieces = flat(without_prefix("middle", copy.weights()).values()).split(PIECE)
        if request.step >= len(pieces):
            raise WireError(f"the middle network has {len(pieces)} pieces, so there is no {request.step}")
        return {Field.WEIGHTS: pieces[request.step]}

    def _front_end(self, copy: SiteCopy) -> Tensor:
        assert copy.segments.front_end is not None
        return to_vector(copy.segments.front_end, self._config.aggregation.statistics)
