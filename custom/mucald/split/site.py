"""A site: it validates the model it was given, trains for a round, or tests its best round's model."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from mucald import metrics, randomness
from mucald.config import JobConfig
from mucald.data.dataset import Batch, SiteData, Split
from mucald.errors import CheckpointError, TrainingError
from mucald.privacy.release import Release
from mucald.split.checkpoint import CheckpointStore, load_checkpoint, save_checkpoint
from mucald.split.exchange import Exchange, NoisedProxies
from mucald.split.link import Link
from mucald.split.messages import Phase
from mucald.split.site_segments import SiteSegments
from mucald.split.statistics import Averages
from mucald.tasks import Task

KEPT_ROUNDS = 2


@dataclass(frozen=True)
class SiteTask:
    """What the server asks of a site.

    Args:
        kind: ``train`` for one round, or ``test`` after the last.
        round: number of complete rounds before this task, which numbers the round.
        run_id: names the run, hence its checkpoints.
        newcomers: sites that have not finished any round yet, and may begin with their first weights.
    """

    kind: Literal["train", "test"]
    round: int
    run_id: str
    newcomers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Previews:
    """The best, median and worst test image: images (N, 3, H, W), labels and predictions (N, H, W).

    For the site's own eyes.
    """

    images: Tensor
    labels: Tensor
    predictions: Tensor


@dataclass
class _Validation:
    """Scores of a validation's batches with one state of the server's, and its mean loss."""

    scores: list[Any] = field(default_factory=list)
    loss: float = 0.0


class SplitSite:
    """One site of a run.

    Between tasks all its state lies in its checkpoint, so that a task may run in a process of its own.

    Args:
        name: name of the site.
        config: the job.
        data: the site's images, labels and proxies.
        store: where its checkpoints lie.
        device: where to compute.
    """

    def __init__(
        self, name: str, config: JobConfig, data: SiteData, store: CheckpointStore, device: torch.device
    ):
        self.name, self._config, self._data, self._store = name, config, data, store
        self._release = Release(config.release, data.noise_secret, name)
        self._segments = SiteSegments(config, name, data.task.n_classes, self._release, device)
        self._completed: int | None = None
        self.previews: Previews | None = None

    @property
    def task(self) -> Task:
        """The site's segmentation task."""
        return self._data.task

    def weights(self) -> dict[str, Tensor]:
        """Return front end's and back end's present weights; after the test those of the best round."""
        return self._segments.weights()

    def run(self, task: SiteTask, link: Link) -> dict[str, Any]:
        """Do what the server asks.

        Returns:
            a report of plain numbers, ready for JSON; it is all that the server learns beside the messages.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """
        start = time.perf_counter()
        self._restore(task.round, task.round == 0 or self.name in task.newcomers)
        # Until the task is done, the state in memory is that of no complete round.
        self._completed = None
        exchange = Exchange(link, self._config, task.round)
        report: dict[str, Any] = {
            "site": self.name,
            "task": self.task.name,
            "source": self._data.source,
            "round": task.round,
        }
        for name in ("train", "validation", "test"):
            report[f"n_{name}"] = len(getattr(self._data, name))
        if task.round > 0:
            report["validation"] = self._validate(task.round, exchange)
        if task.kind == "train":
            report |= self._train(task.round, exchange)
            self._save(task.round + 1)
        else:
            report |= self._test(task.round, exchange)
        report["wire"] = asdict(link.traffic)
        report["seconds"] = time.perf_counter() - start
        return report

    def _restore(self, completed: int, newcomer: bool) -> None:
        """Go to the state after ``completed`` rounds, or to the latest before it if the site missed some."""
        if completed == self._completed:
            return
        earlier = [number for number in self._store.rounds("site") if number <= completed]
        if not earlier:
            self._begin(completed, newcomer)
            return
        tensors, state = load_checkpoint(self._store.path(earlier[-1], "site"))
        if state["config"] != self._config.digest():
            raise CheckpointError(
                f"the checkpoint in {self._store.folder} belongs to another configuration",
                public=f"the checkpoint of site '{self.name}' belongs to another configuration",
            )
        self._segments.load_state(tensors)

    def _begin(self, completed: int, newcomer: bool) -> None:
        """Begin with the first weights, unless the site had others and has lost them."""
        if newcomer:
            self._save(completed)
            return
        public = f"site '{self.name}' has no checkpoint to go on from round {completed}"
        raise CheckpointError(f"{public} in {self._store.folder}", public=public)

    def _save(self, completed: int) -> None:
        self._completed = completed
        state = {"config": self._config.digest(), "completed": completed}
        save_checkpoint(self._store.path(completed, "site"), self._segments.state(), state)
        self._store.prune(self._store.rounds("site")[-KEPT_ROUNDS:])

    def _train(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        split = self._data.train
        proxies = self._noised_proxies(split, "train")
        losses, gradients = Averages(), Averages()
        steps = [
            rows
            for epoch in range(self._config.training.local_epochs)
            for rows in self._shuffled(round_number, epoch)
        ]
        for step, rows in enumerate(steps):
            batch = split.batch(rows)
            result = self._segments.train_step(
                batch.images,
                batch.masks,
                (round_number, step, "train"),
                partial(exchange.train_forward, step, proxies=_rows(proxies, rows)),
                partial(exchange.train_backward, step),
            )
            losses.add_all(result.losses)
            gradients.add_all(result.gradients)
        return {"losses": losses.means(), "gradients": gradients.means(), "steps": len(steps)}

    def _shuffled(self, round_number: int, epoch: int) -> tuple[Tensor, ...]:
        draws = randomness.generator(self._config.seed, self.name, round_number, epoch, "order")
        order = torch.from_numpy(draws.permutation(len(self._data.train)))
        return order.split(self._config.training.batch_size)

    def _in_order(self, split: Split) -> Iterator[tuple[int, Tensor, Batch]]:
        batches = torch.arange(len(split)).split(self._config.training.batch_size)
        for step, rows in enumerate(batches):
            yield step, rows, split.batch(rows)

    def _noised_proxies(self, split: Split, purpose: str) -> NoisedProxies | None:
        """Return the split's proxies as the server may see them; None if it has no use for them."""
        if self._config.crdm.encoder == "none":
            return None
        return self._release.proxies(split.proxies, purpose)

    def _validate(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        """Score what the round may begin with, report it, and keep the chosen one if it is the best so far.

        Most rules of aggregation leave one state to begin with, and nothing to choose.
        """
        split = self._data.validation
        proxies = self._noised_proxies(split, "validation")
        found: list[_Validation] = []
        for step, rows, batch in self._in_order(split):
            predictions = self._segments.predict_each(
                batch.images,
                (round_number, step, "validation"),
                partial(exchange.evaluate, Phase.VALIDATE, step, proxies=_rows(proxies, rows)),
            )
            found = found or [_Validation() for _ in predictions]
            for validation, logits in zip(found, predictions, strict=True):
                validation.scores.append(
                    metrics.image_scores(logits, batch.masks, self.task.n_classes, surface=False)
                )
                loss = float(self._segments.loss(logits, batch.masks.to(logits.device)))
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"validation loss of site '{self.name}' is not finite "
                        f"at round/step {round_number}/{step}"
                    )
                validation.loss += len(rows) / len(split) * loss
        scores = [(metrics.mean_dice(validation.scores), validation.loss) for validation in found]
        best, chosen = exchange.report(scores)
        if best:
            self._segments.keep_best()
        dice, loss = scores[chosen]
        return {"round": round_number - 1, "dice": dice, "loss": loss, "best": best}

    def _test(self, round_number: int, exchange: Exchange) -> dict[str, Any]:
        """Score the best round's model on the test set, with and without the server's features."""
        self._segments.load_best()
        split, classes = self._data.test, self.task.classes
        scores, without_server, predictions = [], [], []
        for step, _, batch in self._in_order(split):
            logits, alone = self._segments.predict(
                batch.images, (round_number, step, "test"), partial(exchange.evaluate, Phase.TEST, step)
            )
            scores.append(metrics.image_scores(logits, batch.masks, len(classes), surface=True))
            without_server.append(metrics.image_scores(alone, batch.masks, len(classes), surface=False))
            predictions.append(logits.argmax(dim=1).cpu())
        dice_per_image = metrics.dice_per_image(scores)
        if self._data.tensorboard_images and (telling := metrics.telling_images(dice_per_image)):
            shown = split.batch(telling)
            self.previews = Previews(shown.images, shown.masks, torch.cat(predictions)[telling])
        summary, alone_dice = metrics.summarise(scores, classes), metrics.mean_dice(without_server)
        known = summary["dice"] is not None and alone_dice is not None
        return {
            "test": summary,
            "dice_per_image": dice_per_image,
            "server_contribution": summary["dice"] - alone_dice if known else None,
        }


def _rows(proxies: NoisedProxies | None, rows: Tensor) -> NoisedProxies | None:
    return None if proxies is None else (proxies[0][rows], proxies[1][rows])
