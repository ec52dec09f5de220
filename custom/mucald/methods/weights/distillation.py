"""What a site's network knew when the round began teaches it during the round."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mucald import randomness
from mucald.methods.weights.config import WeightsConfig
from mucald.nets.whole import trained_network, whole_plan
from mucald.tasks import Task
from mucald.training.whole_model import Extra, no_terms


def global_to_local(
    config: WeightsConfig, round_number: int, task: Task, weights: dict[str, Tensor], device: torch.device
) -> Extra:
    """Return FedCMT's distillation for a round of a site, or what adds nothing where its weight is 0.

    The teacher is what the round began with: the shared weights from the server, all else the site's own. The
    term is λ KL(teacher ‖ site), mean over pixels, voxels, or samples that have one class, with λ the ramp
    ``distillation`` at the round's progress.

    Args:
        config: the job.
        round_number: number of complete rounds before this one.
        task: the site's.
        weights: of the whole network as the round begins; they are copied.
        device: where to compute.
    """
    weight = config.distillation.at(config.progress(round_number))
    if not weight:
        return no_terms
    # Its layers draw first weights, from a generator that other sites of the process draw from as well.
    with randomness.seeded_initialisation(config.seed, "teacher"):
        teacher = trained_network(whole_plan(config.network, config.clip), task, weights).to(device)

    def term(inputs: Tensor, logits: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            known = teacher(inputs).log_softmax(dim=1)
        divergence = F.kl_div(logits.log_softmax(dim=1), known, reduction="none", log_target=True)
        return {"distillation": weight * divergence.sum(dim=1).mean()}

    return term
