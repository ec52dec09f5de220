"""What a participant remembers between tasks: a checkpoint of its own after every complete round."""

from typing import Protocol

from torch import Tensor

from mucald.errors import CheckpointError
from mucald.state.checkpoint import CheckpointStore, load_checkpoint, save_checkpoint

KEPT_ROUNDS = 2


class Stateful(Protocol):
    """Networks with their optimiser and best weights."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds."""

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""


class Resumable:
    """A participant whose state between tasks lies in its checkpoint.

    So a task may run in a process of its own.

    Args:
        name: name of the participant.
        digest: of the job's configuration; a checkpoint of another is refused.
        store: where its checkpoints lie.
        segments: what they hold.
    """

    def __init__(self, name: str, digest: str, store: CheckpointStore, segments: Stateful):
        self.name, self._digest, self._store = name, digest, store
        self._stateful = segments
        self._completed: int | None = None

    def _restore(self, completed: int, newcomer: bool) -> None:
        """Go to the state after ``completed`` rounds, or to the latest before it if some were missed.

        What lies beyond is dropped: a round that the site finished, but whose report came too late to count.
        """
        if completed == self._completed and not newcomer:
            return
        earlier = [number for number in self._store.rounds("site") if number <= completed]
        # A newcomer's later states come from rounds that did not count either.
        kept = earlier[:1] if newcomer else earlier
        self._store.prune(kept)
        if not kept:
            self._begin(completed, newcomer)
            return
        tensors, state = load_checkpoint(self._store.path(kept[-1], "site"))
        if state["config"] != self._digest:
            raise CheckpointError(
                f"the checkpoint in {self._store.folder} belongs to another configuration",
                public=f"the checkpoint of site '{self.name}' belongs to another configuration",
            )
        self._stateful.load_state(tensors)

    def _begin(self, completed: int, newcomer: bool) -> None:
        """Begin with the first weights, unless the site had others and has lost them."""
        if newcomer:
            self._save(completed)
            return
        public = f"site '{self.name}' has no checkpoint to go on from round {completed}"
        raise CheckpointError(f"{public} in {self._store.folder}", public=public)

    def _save(self, completed: int) -> None:
        self._completed = completed
        state = {"config": self._digest, "completed": completed}
        save_checkpoint(self._store.path(completed, "site"), self._stateful.state(), state)
        self._store.prune(self._store.rounds("site")[-KEPT_ROUNDS:])
