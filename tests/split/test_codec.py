import numpy as np
import pytest
import torch

from mucald.errors import WireError
from mucald.split.codec import FORMATS, decode_tensor


def round_trip(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return decode_tensor(name, memoryview(FORMATS[name].encode(tensor)), tuple(tensor.shape))


@pytest.fixture
def tensor():
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) * 2


def test_float32_is_exact(tensor):
    assert torch.equal(round_trip("float32", tensor), tensor)


def test_bfloat16_is_torchs_own_rounding(tensor):
    assert torch.equal(round_trip("bfloat16", tensor), tensor.to(torch.bfloat16).float())


def test_int8_errs_by_half_a_level_of_each_plane_at_most(tensor):
    tensor[1, 2] *= 100
    error = (round_trip("int8", tensor) - tensor).abs().amax(dim=(2, 3))
    level = tensor.abs().amax(dim=(2, 3)) / 127
    assert bool((error <= 0.5001 * level).all())
    assert error.max() > 0


def test_int8_keeps_extremes_and_zero_planes(tensor):
    tensor[0, 0] = 0
    tensor[0, 1] *= 1e-45
    decoded = round_trip("int8", tensor)
    assert torch.equal(decoded[0, 0], tensor[0, 0])
    torch.testing.assert_close(decoded.abs().amax(dim=(2, 3)), tensor.abs().amax(dim=(2, 3)))


def test_int8_takes_a_byte_per_number_and_four_per_plane(tensor):
    assert len(FORMATS["int8"].encode(tensor)) == 3 * 4 * 5 * 6 + 4 * 3 * 4
    assert len(FORMATS["bfloat16"].encode(tensor)) == 2 * tensor.numel()


def test_a_tensor_that_is_not_contiguous_survives(tensor):
    assert torch.equal(round_trip("float32", tensor.transpose(1, 3)), tensor.transpose(1, 3))


def test_the_decoded_tensor_can_be_written_to():
    decoded = round_trip("float32", torch.ones(1, 1, 2, 2))
    decoded.add_(1)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("length", [-1, 1])
def test_a_wrong_length_is_refused(name, length, tensor):
    data = FORMATS[name].encode(tensor)
    data = data[:length] if length < 0 else data + b"\0"
    with pytest.raises(WireError, match="does not fit shape"):
        decode_tensor(name, memoryview(data), tuple(tensor.shape))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_an_int8_scale_that_is_not_finite_and_positive_is_refused(scale, tensor):
    data = bytearray(FORMATS["int8"].encode(tensor))
    data[:4] = np.float32(scale).tobytes()
    with pytest.raises(WireError, match="scale"):
        decode_tensor("int8", memoryview(data), tuple(tensor.shape))


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_numbers_that_are_not_finite_are_refused(name, tensor):
    tensor[0, 0, 0, 0] = float("nan")
    with pytest.raises(WireError, match="not finite"):
        round_trip(name, tensor)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_int8_does_not_hide_a_number_that_is_not_finite(value, tensor):
    tensor[1, 2, 3, 4] = value
    with pytest.raises(WireError, match="scale is not a finite"):
        round_trip("int8", tensor)
