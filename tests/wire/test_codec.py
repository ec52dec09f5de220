import numpy as np
import pytest
import torch

from mucald.errors import WireError
from mucald.wire.codec import FORMATS, decode_tensor


def round_trip(name: str, tensor: torch.Tensor, key: tuple[int | str, ...] | None = None) -> torch.Tensor:
    return decode_tensor(name, memoryview(FORMATS[name].encode(tensor, key)), tuple(tensor.shape))


@pytest.fixture
def tensor():
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) * 2


def test_float32_is_exact(tensor):
    assert torch.equal(round_trip("float32", tensor), tensor)


def test_bfloat16_is_torchs_own_rounding(tensor):
    assert torch.equal(round_trip("bfloat16", tensor), tensor.to(torch.bfloat16).float())


QUANTISED = pytest.mark.parametrize(("name", "limit"), [("int8", 127), ("int4", 7)])


@QUANTISED
def test_few_levels_err_by_half_a_level_of_each_plane_at_most(name, limit, tensor):
    tensor[1, 2] *= 100
    error = (round_trip(name, tensor) - tensor).abs().amax(dim=(2, 3))
    level = tensor.abs().amax(dim=(2, 3)) / limit
    assert bool((error <= 0.5001 * level).all())
    assert error.max() > 0


@QUANTISED
def test_few_levels_keep_extremes_and_zero_planes(name, limit, tensor):  # noqa: ARG001
    tensor[0, 0] = 0
    tensor[0, 1] *= 1e-45
    decoded = round_trip(name, tensor)
    assert torch.equal(decoded[0, 0], tensor[0, 0])
    torch.testing.assert_close(decoded.abs().amax(dim=(2, 3)), tensor.abs().amax(dim=(2, 3)))


def test_every_level_survives():
    for name, limit in (("int8", 127), ("int4", 7)):
        levels = torch.arange(-limit, limit + 1, dtype=torch.float32).reshape(1, 1, 1, -1)
        assert torch.equal(round_trip(name, 0.25 * levels), 0.25 * levels)


def test_int4_takes_half_a_byte_per_number_the_last_one_a_whole_byte_where_they_are_odd():
    tensor = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    assert len(FORMATS["int4"].encode(tensor)) == 4 * 3 + 38
    scales = tensor.abs().amax(dim=(2, 3), keepdim=True) / 7
    torch.testing.assert_close(round_trip("int4", tensor), (tensor / scales).round() * scales)


@QUANTISED
def test_stochastic_rounding_is_right_on_average_where_the_nearest_level_is_not(name, limit):
    small = torch.full((1, 1, 1, 20_001), 0.2 / limit)
    small[..., 0] = 1.0
    assert not round_trip(name, small)[..., 1:].any()
    decoded = round_trip(name, small, (7, "north", 0, 0))
    assert decoded[..., 0] == 1.0
    levels = decoded[..., 1:] * limit
    assert set(levels.round().unique().tolist()) == {0.0, 1.0}
    assert abs(levels.double().mean() - 0.2) < 0.01


@QUANTISED
def test_stochastic_rounding_follows_from_its_key_and_errs_by_less_than_a_level(name, limit, tensor):
    first = round_trip(name, tensor, (7, "north", 0, 0))
    assert torch.equal(first, round_trip(name, tensor, (7, "north", 0, 0)))
    assert not torch.equal(first, round_trip(name, tensor, (7, "north", 0, 1)))
    level = tensor.abs().amax(dim=(2, 3), keepdim=True) / limit
    assert bool(((first - tensor).abs() < 1.0001 * level).all())
    assert bool((first.abs() <= 1.0001 * limit * level).all())


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_types_of_many_levels_do_not_draw(name, tensor):
    assert torch.equal(round_trip(name, tensor, (7, "north")), round_trip(name, tensor))


def test_int8_takes_a_byte_per_number_and_four_per_plane(tensor):
    assert len(FORMATS["int8"].encode(tensor)) == 3 * 4 * 5 * 6 + 4 * 3 * 4
    assert len(FORMATS["bfloat16"].encode(tensor)) == 2 * tensor.numel()


def test_a_tensor_that_is_not_contiguous_survives(tensor):
    assert torch.equal(round_trip("float32", tensor.transpose(1, 3)), tensor.transpose(1, 3))


def test_the_decoded_tensor_can_be_written_to():
    decoded = round_trip("float32", torch.ones(1, 1, 2, 2))
    decoded.add_(1)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("length", [-1, 1])
def test_a_wrong_length_is_refused(name, length, tensor):
    data = FORMATS[name].encode(tensor)
    data = data[:length] if length < 0 else data + b"\0"
    with pytest.raises(WireError, match="does not fit shape"):
        decode_tensor(name, memoryview(data), tuple(tensor.shape))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_scale_that_is_not_finite_and_positive_is_refused(name, scale, tensor):
    data = bytearray(FORMATS[name].encode(tensor))
    data[:4] = np.float32(scale).tobytes()
    with pytest.raises(WireError, match=f"{name} scale is not a finite positive"):
        decode_tensor(name, memoryview(data), tuple(tensor.shape))


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_scale_that_carries_levels_past_the_largest_number_is_refused(name, tensor):
    data = bytearray(FORMATS[name].encode(tensor))
    data[:4] = np.float32(3e38).tobytes()
    with pytest.raises(WireError, match="not finite"):
        decode_tensor(name, memoryview(data), tuple(tensor.shape))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_numbers_that_are_not_finite_are_refused(name, tensor):
    tensor[0, 0, 0, 0] = float("nan")
    with pytest.raises(WireError, match="not finite"):
        round_trip(name, tensor)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["int8", "int4"])
@pytest.mark.parametrize("key", [None, (7, "north")])
def test_few_levels_do_not_hide_a_number_that_is_not_finite(name, key, value, tensor):
    tensor[1, 2, 3, 4] = value
    with pytest.raises(WireError, match="scale is not a finite"):
        round_trip(name, tensor, key)
