"""Domain inference: does what crossed, or what the server makes of it, betray the site it came from?

The server knows its sites by their connections. This tells how different their features are, which DACA is
meant to hide; compare runs with and without it.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mucald import randomness
from mucald.errors import AttackError
from mucald.methods.split.wire.messages import Field
from mucald_studies.attacks.harness.base import Attack, Hits, Knowledge, attack
from mucald_studies.attacks.harness.fitting import Curve, fit
from mucald_studies.attacks.harness.networks import PooledProbe
from mucald_studies.attacks.harness.view import View

HIDDEN = 32


def _domain_inference(name: str, maps_of: Callable[[View], Tensor]) -> Attack:
    """Return probes trained on half of the training samples' maps of the last epoch, tested on the others.

    ``maps_of`` returns a site's maps (N, L, h, w), in the order of the samples.
    """

    @attack(name, Knowledge.SITES)
    def domain_inference(view: View) -> Hits:
        views = view.sites()
        if len(views) < 2:
            raise AttackError("domain inference sets sites side by side; this run has one")
        per_site = [maps_of(other) for other in views.values()]
        count = min(len(maps) for maps in per_site)
        labels = torch.arange(len(per_site)).repeat_interleave(count)
        maps = torch.cat([maps[:count] for maps in per_site])
        known = (torch.arange(count) < count // 2).repeat(len(per_site))
        hits = {}
        for kind, hidden in (("linear", 0), ("mlp", HIDDEN)):
            predicted, curve = _probe(view, (maps, labels, known), hidden)
            hits[kind] = predicted == labels[~known]
        return Hits(hits, 1 / len(per_site), curve)

    return domain_inference


def _released(view: View) -> Tensor:
    """Return the released latents x_t."""
    return view.training(Field.LATENT, 1).by_epoch()[-1]


def _denoised(view: View) -> Tensor:
    """Return x̂1, what the server's first denoiser makes of them."""
    if not view.has_denoiser:
        raise AttackError("the server denoises nothing in this job; there is no x̂1")
    return view.denoised(_released(view))


def _features(view: View) -> Tensor:
    """Return x̂₂, what the server sends back."""
    return view.training(Field.FEATURES, 1).by_epoch()[-1]


release = _domain_inference("domain.release", _released)
denoised = _domain_inference("domain.denoised", _denoised)
features = _domain_inference("domain.features", _features)


def _probe(view: View, samples: tuple[Tensor, Tensor, Tensor], hidden: int) -> tuple[Tensor, Curve]:
    """Return what a probe says of the samples that it has not learnt from, and its curve."""
    maps, labels, known = samples
    # A quarter of the known samples tells when to stop.
    held = known & (torch.arange(len(labels)) % 4 == 0)
    learnt = (known & ~held).nonzero()[:, 0]
    with randomness.seeded_initialisation(*view.key("probe", hidden)):
        probe = PooledProbe(maps.shape[1], int(labels.max()) + 1, hidden)

    def loss(step: int) -> Tensor:
        draws = randomness.generator(*view.key("batch", hidden, step))
        rows = learnt[draws.integers(len(learnt), size=view.budget.batch)]
        return cross_entropy(probe(maps[rows]), labels[rows])

    curve = fit(probe, loss, lambda: cross_entropy(probe(maps[held]), labels[held]), view.budget)
    with torch.no_grad():
        return probe(maps[~known]).argmax(dim=1), curve
