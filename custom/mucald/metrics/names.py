"""What is reported of a model, by what is told of a task's samples. A kind of target is one entry here."""

from dataclasses import dataclass

from mucald.tasks import Target, get_task


@dataclass(frozen=True)
class Names:
    """The names that reports, results and tables have.

    Args:
        loss: of the training loss that progress shows.
        metrics: of the scores of a test. The first also scores the validation of every round, whose best is
            the site's.
        per_image: the field that lists what is told of every test image.
    """

    loss: str
    metrics: tuple[str, ...]
    per_image: str

    @property
    def primary(self) -> str:
        """The score that decides which round is best."""
        return self.metrics[0]


NAMES: dict[Target, Names] = {
    "mask": Names(
        "segmentation",
        ("dice", "iou", "iou_with_background", "precision", "recall", "hd95", "assd"),
        "dice_per_image",
    ),
    "class": Names(
        "classification",
        ("balanced_accuracy", "accuracy", "f1", "f1_weighted", "auroc", "calibration_error"),
        "balanced_per_image",
    ),
}


def names_of(task: str) -> Names:
    """Return the names for a task.

    Raises:
        ConfigError: there is no such task.
    """
    return NAMES[get_task(task).target]
