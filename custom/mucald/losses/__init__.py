"""Training losses, one module per kind of target."""

from mucald.losses.classification import ClassificationLoss
from mucald.losses.segmentation import SegmentationLoss
from mucald.tasks import Task

Loss = SegmentationLoss | ClassificationLoss


def loss_of(task: Task, cross_entropy: float) -> Loss:
    """Return the training loss of a task.

    Args:
        task: what is learnt.
        cross_entropy: weight of cross-entropy beside Dice, where masks are learnt.
    """
    if task.target == "class":
        return ClassificationLoss(task.n_classes)
    return SegmentationLoss(task.n_classes, cross_entropy)
