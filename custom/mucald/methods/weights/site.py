"""A site that trains a whole network and shares the weights of some of its parts."""

import time
from collections.abc import Callable, Collection
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
from mucald.methods.weights.cross_site import MODEL, split_off
from mucald.methods.weights.distillation import global_to_local
from mucald.methods.weights.joining import latest_of
from mucald.methods.weights.parts import shared_tensors, without_parts
from mucald.methods.weights.site_models import SiteModels
from mucald.metrics.names import names_of
from mucald.metrics.scoring import Previews, data_report
from mucald.privacy.disclosure import Disclosure, account
from mucald.state.averages import Averages
from mucald.state.checkpoint import CheckpointStore, with_prefix, without_prefix
from mucald.state.resumable import Resumable
from mucald.training.whole_model import Adjust, WholeModel
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
        self._models = SiteModels(config, name, data, device, self._algorithm.personal)
        self._model, self._device = self._models.common, device
        self._previews: Previews | None = None
        super().__init__(name, config.digest(), store, self._models)

    def tested(self) -> list[Tested]:
        """Return the whole network of the best round."""
        weights = self._models.tested.weights(self.name)
        return [Tested(self.name, self._data.task, weights, self._previews)]

    def account(self) -> dict[str, Any]:
        """Return what sharing weights can tell."""
        return account(self._disclosures, self._data.images_per_case)

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:  # noqa: ARG002 - there are no steps
        """Take the shared weights, validate them, and train for a round or test the best round.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start = time.perf_counter()
        is_new, earlier = task.is_new(self.name), self._config.begin_with
        self._restore(task.counted(self.name), is_new)
        goes_on = is_new and earlier is not None and self._begin_as_in(earlier)
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        report = data_report(self.name, self._data, task.round)
        down = byte_count(received)
        received, peers = split_off(received)
        shared, tested = self._take(received, is_new), self._models.tested
        # What an earlier run has left may be better than all that comes, and tells what joining does to it.
        if task.round > 0 or goes_on:
            report["validation"] = tested.validate(self.name, self._data, task.round)
        change: State = {}
        if task.kind == "train":
            added = earlier is not None and not goes_on
            held = self._config.held(self.name, added) if is_new else ()
            shared = without_parts(shared, held)
            begun = {name: tensor.detach().clone() for name, tensor in shared.items()}
            report |= self._train(task.round, begun, held)
            change = {name: (tensor.detach() - begun[name]).cpu() for name, tensor in shared.items()}
            report["after_training"] = self._score(tested, task.round)
            if self._config.peers(self.name) and task.round == self._config.training.rounds - 1:
                change |= with_prefix(MODEL, _floating(tested.weights(self.name)))
            self._save(task.round + 1)
        else:
            scores, self._previews = tested.test(self.name, self._data)
            report |= scores | self._cross_site(tested, peers, task.round)
        up = byte_count(change)
        report["wire"] = asdict(Traffic(up, down, up + down if task.kind == "train" else 0))
        report["seconds"] = time.perf_counter() - start
        return Outcome({self.name: report}, change)

    def _score(self, tested: WholeModel, round_number: int) -> dict[str, float]:
        """Return what local training has led to, before the server combines it, on the validation samples."""
        score, loss = tested.score(self.name, self._data.validation, round_number)
        return {"loss": loss} | ({} if score is None else {names_of(self._data.task.name).primary: score})

    def _cross_site(self, tested: WholeModel, peers: State, round_number: int) -> dict[str, Any]:
        """Return the test scores of the networks of other sites, after their last round, by site."""
        known, scores = tested.weights(self.name), dict[str, float]()
        for site in self._config.peers(self.name):
            if weights := without_prefix(site, peers):
                check_tensors(weights, known, f"the network of site '{site}'")
                score = tested.score_of(self.name, self._data.test, round_number, weights)
                scores |= {} if score is None else {site: score}
        return {"cross_site": scores} if scores else {}

    def _begin_as_in(self, run: str) -> bool:
        """Take the network that the site had in an earlier run; return whether it had one."""
        saved = latest_of(self._store.folder.parent / run, "site")
        if saved is not None:
            self._models.begin_as(saved[0])
        return saved is not None

    @torch.no_grad()
    def _take(self, received: State, is_new: bool) -> State:
        """Put the shared weights in place, and return the network's own shared tensors."""
        shared = self._shared_of(self._model)
        check_tensors(received, shared, "the server")
        for name, tensor in received.items():
            shared[name].copy_(tensor)
        if is_new and self._models.personal:
            # A personal network begins as what the others have learnt, or as all do.
            for name, tensor in self._shared_of(self._models.personal).items():
                tensor.copy_(shared[name])
        return shared

    def _shared_of(self, model: WholeModel) -> State:
        parts = model.networks[self.name].parts()
        return shared_tensors(parts, self._config.parts_of(self.name), self._algorithm)

    def _train(self, round_number: int, begun: State, held: Collection[str]) -> dict[str, Any]:
        losses, gradients, config = Averages(), Averages(), self._config
        personal, algorithm = self._models.personal, self._algorithm
        adjust = self._adjust(self._model, begun, algorithm.adjust_gradients)
        adjust_personal = self._adjust(personal, begun, algorithm.adjust_personal) if personal else dict
        weights = self._model.weights(self.name)
        teacher = global_to_local(config, round_number, self._data.task, weights, self._device)
        parts = tuple(self._model.networks[self.name].parts())
        plan = [
            (algorithm.trained(epoch, config.parts_of(self.name), parts), rows)
            for epoch in range(config.training.local_epochs)
            for rows in epoch_batches(config, self.name, round_number, epoch, len(self._data.train))
        ]
        for step, (of_epoch, rows) in enumerate(plan):
            # In an epoch for what is held, a newcomer goes on with what is its own.
            free = [part for part in parts if part not in held]
            trained = [part for part in of_epoch if part in free] or free
            batch = training_batch(config, self.name, self._data, round_number, step, rows)
            of_step = (self.name, batch.inputs, batch.targets, f"{round_number}/{step}")
            rate = config.rate(round_number, step, len(plan))
            result = self._model.train_step(*of_step, adjust, extra=teacher, trained=trained, rate=rate)
            losses.add_all(result.losses)
            gradients.add_all(result.gradients)
            if personal:
                own = personal.train_step(*of_step, adjust_personal, rate=rate).losses
                losses.add_all({f"personal_{name}": value for name, value in own.items()})
        return {"losses": losses.means(), "gradients": gradients.means(), "steps": len(plan)}

    def _adjust(self, model: WholeModel, begun: State, by: Callable[..., dict[str, float]]) -> Adjust:
        """Return what the algorithm does to the gradients of what the model shares."""
        parameters = dict(model.networks[self.name].named_parameters())
        shared = {name: parameters[name] for name in begun if name in parameters}
        return lambda: by(shared, begun)


def _floating(tensors: State) -> State:
    """Return copies of a network's floating-point tensors, on the CPU; in one process it trains on."""
    return {name: t.detach().clone().cpu() for name, t in tensors.items() if t.is_floating_point()}
