import json
import math
import warnings

import pytest
import torch
import torch.nn.functional as F

from mucald.metrics.segmentation import dice_per_image, image_scores, mean_dice, summarise

SIZE = 16
DIAGONAL = math.hypot(SIZE, SIZE)
METRICS = ("dice", "iou", "precision", "recall", "hd95", "assd")


def square(top, left, side, label=1, size=SIZE):
    image = torch.zeros(1, size, size, dtype=torch.int64)
    image[:, top : top + side, left : left + side] = label
    return image


def score(prediction, reference, n_classes=2, label=1):
    """The scores of one class of one image."""
    scores = image_scores(prediction, reference, n_classes, surface=True)
    return {name: values[0, label].item() for name, values in scores.items()}


def surface_distances(prediction, reference):
    """All distances from either surface to the other, by comparing every pair of pixels."""

    def surface(mask):
        points = []
        for row, column in mask.nonzero().tolist():
            neighbours = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            inside = [
                0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and bool(mask[r, c]) for r, c in neighbours
            ]
            if not all(inside):
                points.append((row, column))
        return points

    def directed(points, others):
        return torch.tensor([min(math.dist(p, q) for q in others) for p in points], dtype=torch.float64)

    first, second = surface(prediction), surface(reference)
    return directed(first, second), directed(second, first)


def test_overlap_of_shifted_squares_by_hand():
    """Two 4x4 squares, one shifted by one pixel: TP 12, FP 4, FN 4."""
    found = score(square(4, 5, 4), square(4, 4, 4))
    assert found["dice"] == 24 / 32
    assert found["iou"] == 12 / 20
    assert found["precision"] == found["recall"] == 12 / 16


def test_precision_and_recall_are_not_swapped():
    found = score(square(4, 4, 2), square(4, 4, 4))
    assert (found["precision"], found["recall"]) == (1.0, 4 / 16)
    found = score(square(4, 4, 4), square(4, 4, 2))
    assert (found["precision"], found["recall"]) == (4 / 16, 1.0)


def test_surface_distances_of_shifted_squares_by_hand():
    """Shifted by one: each 12-pixel ring has 6 pixels on the other ring; the others are one pixel away.

    Those are its outer side (4), and 2 pixels that lie in the middle of the other square.
    """
    found = score(square(4, 5, 4), square(4, 4, 4))
    assert found["assd"] == pytest.approx(6 / 12)
    assert found["hd95"] == pytest.approx(1.0)


def test_nested_squares_are_measured_to_the_surface():
    """A 4x4 square in the middle of a 12x12 one: 4 pixels apart, not 0 although all of it is inside.

    Of the 44 outer surface pixels, each side has 4 right across from the inner square, and to either side 4
    with a lateral offset of 1..4 (offset 4, the corners, is shared by two sides).
    """
    found = score(square(6, 6, 4), square(2, 2, 12))
    inner = [4.0] * 12
    outer = [4.0] * 16 + 8 * [math.hypot(4, j) for j in (1, 2, 3)] + 4 * [math.hypot(4, 4)]
    assert found["assd"] == pytest.approx(sum(inner + outer) / 56, rel=1e-6)
    assert found["hd95"] == pytest.approx(math.hypot(4, 4), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_surface_distances_against_every_pair_of_pixels(seed):
    random = torch.Generator().manual_seed(seed)
    prediction, reference = (torch.rand(1, SIZE, SIZE, generator=random) > 0.7).long(), square(3, 5, 6)
    there, back = surface_distances(prediction[0], reference[0])
    found = score(prediction, reference)
    assert found["assd"] == pytest.approx(torch.cat([there, back]).mean().item(), rel=1e-5)
    expected = max(there.quantile(0.95).item(), back.quantile(0.95).item())
    assert found["hd95"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("shape", [(8, 8), (17, 40), (64, 64)])
def test_surface_distances_are_monai_s_to_the_bit(shape):
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    random = torch.Generator().manual_seed(1)
    blobs = F.avg_pool2d(torch.rand(8, 1, *shape, generator=random), 5, 1, 2)
    prediction, reference = (blobs > blobs.mean()).split(4)
    pair = prediction.float(), reference.float()
    found = image_scores(prediction[:, 0].long(), reference[:, 0].long(), 2, surface=True)
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
    assd = compute_average_surface_distance(*pair, include_background=True, symmetric=True)
    assert torch.equal(found["hd95"][:, 1], hd95[:, 0].double())
    assert torch.equal(found["assd"][:, 1], assd[:, 0].double())


def test_the_image_border_is_surface():
    whole = torch.ones(1, 8, 8, dtype=torch.int64)
    assert score(whole, square(1, 1, 6, size=8))["assd"] == pytest.approx(
        (24 * 1.0 + 4 * math.sqrt(2) + 20 * 1.0) / 48
    )


def test_a_perfect_prediction():
    found = score(square(4, 4, 4), square(4, 4, 4))
    assert found == {"dice": 1, "iou": 1, "precision": 1, "recall": 1, "hd95": 0, "assd": 0}


def test_absent_from_both_does_not_count():
    empty = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    assert all(math.isnan(value) for value in score(empty, empty).values())


@pytest.mark.parametrize("missing", ["prediction", "reference"])
def test_absent_from_one_is_the_worst(missing):
    empty, present = torch.zeros(1, SIZE, SIZE, dtype=torch.int64), square(4, 4, 4)
    prediction, reference = (empty, present) if missing == "prediction" else (present, empty)
    assert score(prediction, reference) == {
        "dice": 0, "iou": 0, "precision": 0, "recall": 0, "hd95": DIAGONAL, "assd": DIAGONAL,
    }  # fmt: skip


def test_empty_or_not_masks_raise_no_warning():
    empty, present = torch.zeros(1, SIZE, SIZE, dtype=torch.int64), square(4, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_scores(
            torch.cat([empty, empty, present]), torch.cat([empty, present, present]), 2, surface=True
        )


def test_background_has_overlap_but_no_surface():
    found = score(square(4, 5, 4), square(4, 4, 4), label=0)
    assert found["iou"] == (256 - 20) / (256 - 12)
    assert math.isnan(found["hd95"])
    assert math.isnan(found["assd"])


def test_logits_and_labels_are_scored_alike():
    labels = square(4, 4, 4, label=2)
    logits = torch.nn.functional.one_hot(square(5, 4, 4, label=2), 3).movedim(-1, 1).float()
    from_logits = image_scores(logits, labels, 3, surface=True)
    from_labels = image_scores(logits.argmax(1), labels, 3, surface=True)
    assert all(torch.equal(from_logits[n].nan_to_num(), from_labels[n].nan_to_num()) for n in METRICS)


def test_without_surface_there_are_no_surface_distances():
    scores = image_scores(square(4, 4, 4), square(4, 4, 4), 2, surface=False)
    assert set(scores) == {"dice", "iou", "precision", "recall"}
    assert "hd95" not in summarise([scores], ["background", "lesion"])


def three_images():
    """Image 0: class 1 perfect, 2 shifted. Image 1: class 1 missed, 2 nowhere. Image 2: rightly empty."""
    empty = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    reference = [square(1, 1, 4) + square(8, 8, 4, label=2), square(4, 4, 4), empty]
    prediction = [square(1, 1, 4) + square(8, 9, 4, label=2), empty, empty]
    return torch.cat(prediction), torch.cat(reference)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_summary_by_hand_whatever_the_batches(batch_size):
    prediction, reference = three_images()
    batches = [
        image_scores(p, r, 3, surface=True)
        for p, r in zip(prediction.split(batch_size), reference.split(batch_size), strict=True)
    ]
    summary = summarise(batches, ["background", "one", "two"])

    assert summary["dice"] == pytest.approx(((1 + 0.75) / 2 + 0) / 2)
    assert summary["iou"] == pytest.approx(((1 + 0.6) / 2 + 0) / 2)
    assert summary["hd95"] == pytest.approx(((0 + 1) / 2 + DIAGONAL) / 2)
    assert summary["assd"] == pytest.approx(((0 + 0.5) / 2 + DIAGONAL) / 2)
    background = (256 - 36) / (256 - 28), (256 - 16) / 256, 1.0
    expected = ((background[0] + 1 + 0.6) / 3 + (background[1] + 0) / 2 + background[2]) / 3
    assert summary["iou_with_background"] == pytest.approx(expected)

    assert summary["per_class"]["one"]["dice"] == pytest.approx((1 + 0) / 2)
    assert summary["per_class"]["two"]["dice"] == pytest.approx(0.75)
    assert summary["per_class"]["two"]["hd95"] == pytest.approx(1.0)
    assert summary["per_class"]["background"]["iou"] == pytest.approx(sum(background) / 3)
    assert summary["per_class"]["background"]["hd95"] is None

    assert mean_dice(batches) == summary["dice"]
    assert dice_per_image(batches) == [0.875, 0.0, None]


def test_summary_is_json_even_when_nothing_counts():
    empty = torch.zeros(1, SIZE, SIZE, dtype=torch.int64)
    batches = [image_scores(empty, empty, 2, surface=True)]
    summary = json.loads(json.dumps(summarise(batches, ["background", "lesion"]), allow_nan=False))
    assert [summary[name] for name in METRICS] == [None] * 6
    assert summary["iou_with_background"] == 1.0
    assert set(summary["per_class"]["lesion"]) == set(METRICS)
    assert mean_dice(batches) is None


def test_wrong_input():
    with pytest.raises(RuntimeError):
        image_scores(square(4, 4, 4), square(4, 4, 4, label=2), 2, surface=False)
    with pytest.raises(ValueError, match="shape"):
        image_scores(square(4, 4, 4), square(4, 4, 4, size=8), 2, surface=False)
    scores = image_scores(square(4, 4, 4), square(4, 4, 4), 2, surface=False)
    with pytest.raises(ValueError, match="2 classes were scored, but 3 named"):
        summarise([scores], ["background", "one", "two"])
