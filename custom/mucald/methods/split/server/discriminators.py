"""The discriminators that all sites share: frozen within a round, trained between rounds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mucald import optimisers, randomness
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.daca import Discriminator, train_discriminator
from mucald.methods.split.model.segments import CRDMS
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.state.checkpoint import load_optimiser_tensors, optimiser_tensors, with_prefix, without_prefix


class Discriminators:
    """The two shared discriminators and their optimisers; none if DACA is off.

    Args:
        config: the job; every site that it names is a domain.
        device: where to compute.
    """

    def __init__(self, config: SplitConfig, device: torch.device):
        self._config = config
        self.modules: list[Discriminator] = []
        if config.daca.enabled:
            for number in CRDMS:
                with randomness.seeded_initialisation(config.seed, "discriminator", number):
                    module = Discriminator(
                        config.network.latent_channels, len(config.sites), config.daca.width
                    )
                self.modules.append(module.to(device))
        self._optimisers = [
            optimisers.Adam(module.parameters(), lr=config.daca.learning_rate) for module in self.modules
        ]

    def train(self, copies: Sequence[SiteCopy], round_number: int) -> dict[str, float]:
        """Train on the features that the sites' copies have buffered in this round.

        Returns:
            loss and accuracy of either discriminator; empty if there is none, or nothing to tell apart.
        """
        report = {}
        for index, (module, optimiser) in enumerate(zip(self.modules, self._optimisers, strict=True)):
            features = {
                copy.domain: copy.features[index].features() for copy in copies if len(copy.features[index])
            }
            result = train_discriminator(
                module,
                optimiser,
                features,
                self._config.daca.steps,
                self._config.daca.batch_per_site,
                (self._config.seed, "server", round_number, "discriminator", CRDMS[index]),
            )
            if result is not None:
                report[f"loss_{CRDMS[index]}"] = result.loss
                report[f"accuracy_{CRDMS[index]}"] = result.accuracy
        return report

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the discriminators holds."""
        tensors: dict[str, Tensor] = {}
        for number, module, optimiser in zip(CRDMS, self.modules, self._optimisers, strict=False):
            tensors |= with_prefix(f"module_{number}", module.state_dict())
            tensors |= with_prefix(f"optimiser_{number}", optimiser_tensors(optimiser))
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        for number, module, optimiser in zip(CRDMS, self.modules, self._optimisers, strict=False):
            module.load_state_dict(without_prefix(f"module_{number}", tensors))
            load_optimiser_tensors(optimiser, without_prefix(f"optimiser_{number}", tensors))
