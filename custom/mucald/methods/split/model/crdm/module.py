"""The causal representation and diffusion module (CRDM), before and behind the middle."""

from dataclasses import dataclass

from torch import Tensor, nn

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.denoiser import ConditionalDenoiser
from mucald.methods.split.model.crdm.exogenous import ExogenousEncoder, sample
from mucald.methods.split.model.crdm.scm import NeuralSCM
from mucald.methods.split.model.crdm.supervision import Denoise


@dataclass(frozen=True)
class CRDMOutput:
    """What a CRDM computes for one batch; ``z``, ``mu`` and ``logvar`` are None without a causal part.

    Args:
        denoised: estimate x̂0 of the clean latent (B, C, H, W).
        z: causal variables (B, n_nodes).
        mu: means of the exogenous variables (B, n_nodes).
        logvar: their log-variances (B, n_nodes).
    """

    denoised: Tensor
    z: Tensor | None
    mu: Tensor | None
    logvar: Tensor | None


class CRDM(nn.Module):
    """Exogenous encoder, structural causal model and conditional denoiser (arXiv 2605.04108).

    z conditions the denoiser with its gradient, so that every loss behind the denoiser trains the causal part
    too. An ablation leaves parts out: without encoder and causal model the denoiser is not conditioned on z;
    without denoiser the noised latent passes as it is.

    Args:
        encoder: exogenous encoder; goes with ``causal``, both or neither.
        causal: ``NeuralSCM``, or ``PlainEncoder`` for the ablation without causal structure.
        denoiser: denoiser for as many causal variables as ``causal`` has nodes, 0 without it.

    Raises:
        ConfigError: the parts do not fit together.
    """

    def __init__(
        self,
        encoder: ExogenousEncoder | None,
        causal: NeuralSCM | None,
        denoiser: ConditionalDenoiser | None,
    ):
        super().__init__()
        if (encoder is None) != (causal is None):
            raise ConfigError("crdm: the exogenous encoder and the causal model go together, both or neither")
        n_nodes = causal.n_nodes if causal else 0
        for name, part in (("encoder", encoder), ("denoiser", denoiser)):
            if part is not None and part.n_nodes != n_nodes:
                raise ConfigError(f"crdm: the {name} has {part.n_nodes} nodes, the causal model {n_nodes}")
        self.encoder = encoder
        self.causal = causal
        self.denoiser = denoiser

    def forward(
        self, observed: Tensor, noised: Tensor, t: Tensor, exogenous_noise: Tensor | None = None
    ) -> CRDMOutput:
        """Denoise a latent.

        Args:
            observed: what the exogenous encoder reads (B, C, H, W); of CRDM-1 the noised latent itself,
                which costs no further privacy.
            noised: x_t (B, C, H, W).
            t: level of each sample, int64 (B,).
            exogenous_noise: standard normal (B, n_nodes) to sample the exogenous variables with, as in
                training; None to take their means, as in evaluation.
        """
        z = mu = logvar = None
        if self.encoder is not None and self.causal is not None:
            mu, logvar = self.encoder(observed)
            z = self.causal(mu if exogenous_noise is None else sample(mu, logvar, exogenous_noise))
        denoised = noised if self.denoiser is None else self.denoiser(noised, t, z)
        return CRDMOutput(denoised, z, mu, logvar)

    def estimator(self, exogenous_noise: Tensor | None = None) -> Denoise:
        """Return the whole map (x_t, t) → x̂0 where the encoder reads x_t too, as the supervision needs it."""
        return lambda x_t, t: self(x_t, x_t, t, exogenous_noise).denoised
