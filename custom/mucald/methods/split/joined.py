"""A site's front end, the server's part and the site's back end as one network.

Everything happens at one place, so nothing has to be hidden; yet the release's noise stays on. The denoiser
was trained on latents of the level ``release.t`` and is conditioned on it, so a clean latent would be an
input that it has never seen. Since nothing leaves, one draw of the noise serves every image: a mask then
depends on its image alone, neither on the others of its folder nor on a secret.
"""

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.federation.method import TrainedModel
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.mixture import Mixture
from mucald.methods.split.model.segments import CRDMS, ServerSegments
from mucald.methods.split.site.release import Release
from mucald.nets import back_end_of, backbone_of
from mucald.state.checkpoint import without_prefix


class JoinedModel(nn.Module):
    """The whole network of one site, in evaluation mode.

    Args:
        model: the trained weights and their job.
    """

    level: Tensor
    noise_1: Tensor
    noise_2: Tensor

    def __init__(self, model: TrainedModel):
        super().__init__()
        config, site = model.config, model.site
        assert isinstance(config, SplitConfig)
        backbone = backbone_of(config.network)
        self._noised, self._seed = config.release.noised, config.seed
        algorithm = algorithm_of(config)
        self._components = algorithm.n_components
        self.front_end = backbone.front_end()
        self.back_end = back_end_of(config.network, model.task.n_classes)
        self.mixture = Mixture(self._components) if self._components > 1 else None
        self.server = ServerSegments(config, algorithm, model.task)
        # No secret: it only keys noise that leaves.
        self._release = Release(config.release, "", site)
        self._load(model)
        shape = (1, *backbone.latent_shape(config.data.image_size))
        for number in CRDMS:
            noise = randomness.normal(shape, config.seed, site, "inference", f"split_{number}")
            self.register_buffer(f"noise_{number}", noise)
        self.register_buffer("level", torch.tensor([config.release.t if self._noised else 0]))
        self.eval().requires_grad_(False)

    def _load(self, model: TrainedModel) -> None:
        parts: dict[str, nn.Module] = {"front_end": self.front_end, "back_end": self.back_end}
        parts |= {} if self.mixture is None else {"mixture": self.mixture}
        for name, part in parts.items():
            part.load_state_dict(without_prefix(name, model.site_weights))
        self.server.load_state_dict(model.server_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C, S, S) for images (B, 3, S, S) in [0, 1], S being the job's image size."""
        latent, skips = self.front_end(images)
        bounded = self._release.bounded(latent)
        level = self.level.expand(images.shape[0])
        observed = self.server.schedule.noised(bounded, level, self.noise_1) if self._noised else bounded
        features = self.server(observed, level, (self._seed,), self.noise_2).second.denoised
        logits = [self.back_end(part, skips) for part in features.chunk(self._components, dim=1)]
        return logits[0] if self.mixture is None else self.mixture.predict(logits)
