"""Inversion behind the server's own denoiser: does CRDM-1 help an attacker to see more?"""

from torch import Tensor

from mucald.errors import AttackError
from mucald_studies.attacks.decoder import picture, train_decoder
from mucald_studies.attacks.harness.base import Attack, Knowledge, Pictures
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.view import View


class ServersDenoiser(Attack):
    """The attacker of ``decoder.front_end`` looks at x̂1 instead of x_t."""

    name = "denoiser"
    knowledge = frozenset({Knowledge.FRONT_END, Knowledge.AUXILIARY})

    def run(self, view: View, budget: Budget) -> Pictures:
        """Reconstruct the test images.

        Raises:
            AttackError: the server has no denoiser, or nothing is noised.
        """
        if not view.has_denoiser:
            raise AttackError("the server denoises nothing in this job; attack with 'decoder' instead")
        images = view.auxiliary().images

        def prepare(clean: Tensor, key: tuple[int | str, ...]) -> Tensor:
            return view.denoised(view.noised(clean, *key))

        network, curve = train_decoder(view, budget, view.front_end(images), images, prepare)
        sent = view.released("test")
        return Pictures(picture(network, view.denoised(sent.values)), "test", sent.rows, curve)
