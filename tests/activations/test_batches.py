import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.activations._batches import (
    as_stored,
    n_bytes,
    recall_batches,
    shape_after,
    shape_of,
    to_rows,
    to_tensor,
)


@pytest.mark.parametrize(
    ("activation_dtype", "of_maps", "of_vectors"),
    [
        ("auto", "float16", "float32"),
        ("float16", "float16", "float16"),
        ("float32", "float32", "float32"),
    ],
)
def test_dtype_of_maps_and_vectors(activation_dtype, of_maps, of_vectors):
    for shape, dtype in [((3, 4, 4), of_maps), ((9, 4), of_maps), ((9,), of_vectors)]:
        (row,) = to_rows(torch.ones(1, *shape), activation_dtype)
        assert row.dtype == dtype


@pytest.mark.parametrize("activation_dtype", ["auto", "float16", "float32"])
@pytest.mark.parametrize("shape", [(7, 3, 5, 5), (7, 6, 4), (7, 9), (7, 3, 0)])
def test_rounded_activations_are_those_that_come_back(shape, activation_dtype):
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    z[1], z[2], z[3], z[4] = 1e6, 1e-9, np.nan, 0
    for given in (z, z.bfloat16(), z.transpose(0, 1).contiguous().transpose(0, 1)):
        rounded = as_stored(given, activation_dtype)
        assert rounded.dtype == torch.float32
        back = to_tensor(to_rows(given, activation_dtype))
        np.testing.assert_array_equal(rounded, back)
        np.testing.assert_array_equal(as_stored(rounded, activation_dtype), rounded)


def test_rounding_does_not_change_the_given_tensor():
    z = torch.full((2, 3, 4), 1 / 3)
    assert as_stored(z, "auto")[0, 0, 0] != 1 / 3
    assert z.eq(1 / 3).all()


def test_rows_own_their_memory_and_come_back():
    z = torch.rand(3, 2, 4, 4)
    rows = to_rows(z, "auto")
    assert all(row.base is None for row in rows)
    torch.testing.assert_close(to_tensor(rows), z, rtol=1e-3, atol=1e-6)
    assert to_tensor(rows).dtype == torch.float32


@pytest.mark.parametrize("value", [1e6, -1e6, 1e-9, -1e-4, np.inf])
def test_row_that_float16_cannot_hold_stays_in_float32(value):
    z = torch.ones(3, 2, 2, 2)
    z[1] = value
    z[2, 0, 0, 0] = -1e-3
    rows = to_rows(z, "auto")
    assert [row.dtype for row in rows] == [np.float16, np.float32, np.float16]
    assert all(row.base is None for row in rows)
    assert torch.equal(to_tensor(rows)[:2], z[:2])


def test_row_of_zeros_comes_back():
    z = torch.zeros(2, 3, 4, 4)
    assert torch.equal(to_tensor(to_rows(z, "auto")), z)


def test_row_with_nan_stays_in_float32():
    z = torch.tensor([[[1.0, np.nan]]])
    (row,) = to_rows(z, "auto")
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row, z[0])


def test_pixels_are_not_converted():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 2, 2, 3)
    assert torch.equal(to_tensor(to_rows(pixels, "auto")), pixels)


def test_groups_are_rounded_only_where_they_are_floating_point():
    state = {
        "hidden": torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)),
        "mask": torch.tensor([[True, True, False, False]] * 3),
        "padding": torch.arange(12).reshape(3, 4) + 2**40,  # a name like any other
    }
    rows = to_rows(state, "auto", 2)
    assert len(rows) == 2
    assert {n: a.dtype.str for n, a in rows[0].items()} == {
        "hidden": "<f2",
        "mask": "|b1",
        "padding": "<i8",
    }
    rounded, back = as_stored(state, "auto"), to_tensor(rows)
    for name in state:
        assert torch.equal(back[name], rounded[name][:2])
    for name in ("mask", "padding"):
        assert torch.equal(back[name], state[name][:2])
    assert n_bytes(rows[0]) == 4 * 5 * 2 + 4 + 4 * 8


def test_shorter_rows_are_filled_up_with_zeros():
    rows = [
        {"z": np.ones((n, 2), np.float16), "mask": np.ones(n, bool)} for n in (1, 3)
    ]
    batch = to_tensor(rows)
    assert batch["z"].dtype == torch.float32 and batch["mask"].dtype == torch.bool
    assert batch["z"][:, :, 0].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["mask"].tolist() == [[True, False, False], [True, True, True]]


def test_stored_rows_come_in_batches_of_one_shape():
    rows = {bytes([n]): np.zeros(2 + n % 2) for n in range(6)}
    groups, left = [(key, [key[0]]) for key in [*rows, b"gone"]], []

    def fetch(keys):
        return {key: rows[key] for key in keys if key in rows}

    batches = [*recall_batches(fetch, groups, 2, left, list)]
    numbers = [[i for _, (i,) in some] for some, _ in batches]
    assert numbers == [[0, 2], [1, 3], [4], [5]]
    assert [state.shape for _, state in batches] == [(2, 2), (2, 3), (1, 2), (1, 3)]
    assert left == [(b"gone", [b"gone"[0]])]


def test_shape_after_a_tap():
    assert shape_after(nn.Flatten(), (2, 3)) == (6,)
    shapes = {"hidden": (4, 2), "mask": (4,)}
    assert shape_after(nn.Identity(), shapes) == shapes


@pytest.mark.parametrize("activation_dtype", ["auto", "float32"])
def test_padding_of_sequences_is_not_stored(activation_dtype):
    mask = torch.arange(8) < torch.tensor([3, 8, 0])[:, None]
    hidden = torch.randn(3, 8, 4).masked_fill(~mask[..., None], 0)
    state = as_stored({"hidden": hidden, "mask": mask}, activation_dtype)
    rows = to_rows(state, activation_dtype)
    assert [len(row["hidden"]) for row in rows] == [3, 8, 0]
    assert len({shape_of(row) for row in rows}) == 1
    for name, part in to_tensor(rows).items():
        assert part.dtype == state[name].dtype and part.equal(state[name])
    assert rows[0]["hidden"].base is None  # which would keep the padding in memory


def test_windows_of_sequences_come_back():
    mask = torch.arange(8) < torch.tensor([[8, 3], [2, 2]])[..., None]
    hidden = torch.randn(2, 2, 8, 4).masked_fill(~mask[..., None], 0)
    state = as_stored({"hidden": hidden, "mask": mask}, "float32")
    for name, part in to_tensor(to_rows(state, "float32")).items():
        assert part.equal(state[name])


def test_padding_that_is_not_zero_is_stored():
    mask = torch.tensor([[True, False]])
    states = [
        {"hidden": torch.ones(1, 2, 4), "mask": mask},
        {"hidden": torch.zeros(1, 2, 4), "pooled": torch.zeros(1, 1), "mask": mask},
    ]
    for state in states:
        (row,) = to_rows(state, "float32")
        assert {name: part.shape for name, part in row.items()} == {
            name: part.shape[1:] for name, part in state.items()
        }
