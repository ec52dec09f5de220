from dataclasses import replace

import pytest
import torch

from mucald.data.site_data import Batch, DataSplit, SiteData
from mucald.losses import loss_of
from mucald.metrics.scoring import in_order, scores_of_test, scores_of_validation
from mucald.metrics.segmentation import image_scores
from mucald.tasks import Task

VOLUMES = Task("liver", "Liver", ("background", "liver"), input="volume")
GRADES = Task("grade", "Grade", ("low", "high"), input="embedding", target="class")


class Samples(DataSplit):
    def __init__(self, samples, together):
        self._samples, self.together = samples, together
        self.measures = torch.zeros(len(samples), 0)

    def __len__(self):
        return len(self._samples)

    def batch(self, rows):
        inputs, targets = zip(*(self._samples[int(row)] for row in rows), strict=True)
        return Batch(torch.stack(inputs), torch.stack(targets), self.measures[: len(inputs)])


def site_data(task, split):
    return SiteData(task, split, split, split, 1, True, "secret of the test", "test")


def volume(size, side):
    labels = torch.zeros(size, dtype=torch.int64)
    labels[:side, :side, 1] = 1
    return 100 * labels[None].float() - 50, labels


@pytest.fixture
def volumes():
    return Samples([volume((6, 5, 4), 3), volume((4, 4, 3), 2), volume((5, 7, 3), 4)], together=False)


def perfect(batch):
    return torch.stack([batch.targets == 0, batch.targets == 1], dim=1).float() * 9


def test_samples_of_unlike_sizes_come_one_by_one(volumes):
    assert [rows.tolist() for _, rows, _ in in_order(volumes, 2)] == [[0], [1], [2]]
    alike = Samples([volume((4, 4, 3), 2)] * 3, together=True)
    assert [rows.tolist() for _, rows, _ in in_order(alike, 2)] == [[0, 1], [2]]


def test_volumes_are_scored_and_shown_by_their_slice_with_most_labels(volumes):
    summary, per_image, previews = scores_of_test(site_data(VOLUMES, volumes), 2, lambda _, b: perfect(b))
    assert (summary["dice"], summary["hd95"]) == (1, 0)
    assert per_image == [1, 1, 1]
    assert previews.images.shape[1:] == (3, *previews.labels.shape[1:])
    assert previews.labels.sum(dim=(1, 2)).tolist() == previews.images[:, 0].sum(dim=(1, 2)).long().tolist()
    assert torch.equal(previews.labels, previews.predictions)


def test_a_volume_of_one_slice_scores_as_the_image():
    generator = torch.Generator().manual_seed(5)
    predicted, labels = (torch.randint(0, 3, (2, 9, 8), generator=generator) for _ in range(2))
    flat = image_scores(predicted, labels, 3, surface=True)
    deep = image_scores(predicted[..., None], labels[..., None], 3, surface=False)
    assert all(torch.equal(flat[name].nan_to_num(-1), deep[name].nan_to_num(-1)) for name in deep)


def test_the_loss_of_a_volume_of_one_slice_is_that_of_the_image():
    generator = torch.Generator().manual_seed(5)
    loss = loss_of(replace(VOLUMES, classes=("background", "a", "b")), 0.5)
    logits = torch.randn(2, 3, 9, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 9, 8), generator=generator)
    assert float(loss(logits[..., None], labels[..., None])) == pytest.approx(float(loss(logits, labels)))


def test_classes_are_scored_by_their_own_names():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    split = Samples(list(zip(logits, torch.tensor([0, 1, 1]), strict=True)), together=True)
    summary, per_image, previews = scores_of_test(site_data(GRADES, split), 2, lambda _, b: b.inputs)
    assert summary["balanced_accuracy"] == pytest.approx(0.75)
    assert per_image == [1.5, 0.75, 0]
    assert previews is None
    loss = loss_of(GRADES, 0.5)
    ((score, value),) = scores_of_validation("a", split, 2, loss, 0, lambda _s, _r, b: (b.inputs,))
    assert score == pytest.approx(0.75)
    assert value == pytest.approx(float(loss(logits, torch.tensor([0, 1, 1]))))
