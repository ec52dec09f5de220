"""A site that trains a whole network and shares the weights of some of its parts."""

import time
from dataclasses import asdict
from typing import Any

import torch

from mucald.data.augmentation import training_batch
from mucald.data.order import epoch_batches
from mucald.data.site_data import SiteData
from mucald.federation.method import Outcome, Send, State, Tested
from mucald.federation.task import SiteTask
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.parts import shared_tensors
from mucald.metrics.scoring import Previews, data_report
from mucald.privacy.disclosure import Disclosure, account
from mucald.state.averages import Averages
from mucald.state.checkpoint import CheckpointStore
from mucald.state.resumable import Resumable
from mucald.training.whole_model import WholeModel
from mucald.wire.tensors import byte_count, check_tensors
from mucald.wire.traffic import Traffic


class WeightsSite(Resumable):
    """One site of a run.

    Its optimiser's moments, private parts and best weights stay with it from round to round.

    Args:
        name: name of the site.
        config: the job.
        data: the site's images and labels.
        disclosures: what the job lets leave.
        store: where its checkpoints lie.
        device: where to compute.
    """

    def __init__(
        self,
        name: str,
        config: WeightsConfig,
        data: SiteData,
        disclosures: list[Disclosure],
        store: CheckpointStore,
        device: torch.device,
    ):
        self._config, self._data, self._disclosures = config, data, disclosures
        self._algorithm = make_algorithm(config.algorithm)
        self._model = WholeModel(config, {name: data}, device)
        self._previews: Previews | None = None
        super().__init__(name, config.digest(), store, self._model)

    def tested(self) -> list[Tested]:
        """Return the whole network of the best round."""
        return [Tested(self.name, self._data.task, self._model.weights(self.name), self._previews)]

    def account(self) -> dict[str, Any]:
        """Return what sharing weights can tell."""
        return account(self._disclosures, self._data.images_per_case)

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:  # noqa: ARG002 - there are no steps
        """Take the shared weights, validate them, and train for a round or test the best round.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start = time.perf_counter()
        self._restore(task.counted(self.name), task.is_new(self.name))
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        report = data_report(self.name, self._data, task.round)
        shared = self._take(received)
        if task.round > 0:
            report["validation"] = self._model.validate(self.name, self._data.validation, task.round)
        change: State = {}
        if task.kind == "train":
            begun = {name: tensor.detach().clone() for name, tensor in shared.items()}
            report |= self._train(task.round, begun)
            change = {name: (tensor.detach() - begun[name]).cpu() for name, tensor in shared.items()}
            self._save(task.round + 1)
        else:
            tested, self._previews = self._model.test(self.name, self._data)
            report |= tested
        up, down = byte_count(change), byte_count(received)
        report["wire"] = asdict(Traffic(up, down, up + down if task.kind == "train" else 0))
        report["seconds"] = time.perf_counter() - start
        return Outcome({self.name: report}, change)

    @torch.no_grad()
    def _take(self, received: State) -> State:
        """Put the shared weights in place, and return the network's own shared tensors."""
        shared = shared_tensors(self._model.weights(self.name), self._config.parts_of(self.name))
        check_tensors(received, shared, "the server")
        for name, tensor in received.items():
            shared[name].copy_(tensor)
        return shared

    def _train(self, round_number: int, begun: State) -> dict[str, Any]:
        losses, gradients, config = Averages(), Averages(), self._config
        parameters = dict(self._model.networks[self.name].named_parameters())
        shared = {name: parameters[name] for name in begun if name in parameters}
        plan = [
            rows
            for epoch in range(config.training.local_epochs)
            for rows in epoch_batches(config, self.name, round_number, epoch, len(self._data.train))
        ]
        for step, rows in enumerate(plan):
            batch = training_batch(config, self.name, self._data, round_number, step, rows)
            result = self._model.train_step(
                self.name,
                batch.inputs,
                batch.targets,
                f"{round_number}/{step}",
                lambda: self._algorithm.adjust_gradients(shared, begun),
                rate=config.rate(round_number, step, len(plan)),
            )
            losses.add_all(result.losses)
            gradients.add_all(result.gradients)
        return {"losses": losses.means(), "gradients": gradients.means(), "steps": len(plan)}
