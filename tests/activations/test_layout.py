import pytest
import torch

from sktransfer.activations import Layout

SQUARE, WIDE, VECTOR = (3, 32, 32), (3, 32, 64), (10,)


@pytest.mark.parametrize(
    ("shape", "input_shape", "layout"),
    [
        ((7,), SQUARE, "vector"),
        ((7,), VECTOR, "vector"),
        ((5, 6), SQUARE, "tokens"),
        ((5, 6), VECTOR, "tokens"),
        ((5, 4, 4), SQUARE, "channels_first"),
        ((4, 4, 5), SQUARE, "channels_last"),
        ((4, 4, 4), SQUARE, "channels_first"),
        ((8, 1, 1), SQUARE, "channels_first"),
        ((1, 1, 8), SQUARE, "channels_last"),
        ((6, 4, 8), WIDE, "channels_first"),
        ((4, 8, 6), WIDE, "channels_last"),
        ((5, 4, 4), VECTOR, "other"),
        ((2, 3, 4, 5), SQUARE, "other"),
    ],
)
def test_kind(shape, input_shape, layout):
    assert Layout(shape, input_shape).kind == layout


@pytest.mark.parametrize(
    ("n_tokens", "input_shape", "n_extra", "grid"),
    [
        (196, (3, 224, 224), 0, (14, 14)),
        (197, (3, 224, 224), 1, (14, 14)),
        (201, (3, 224, 224), 5, (14, 14)),
        (169, (3, 224, 192), 1, (14, 12)),
        (12, VECTOR, 0, (1, 12)),
    ],
)
def test_tokens_are_a_grid_and_some_more(n_tokens, input_shape, n_extra, grid):
    layout = Layout((n_tokens, 8), input_shape)
    assert (layout.n_extra, layout.grid) == (n_extra, grid)


@pytest.mark.parametrize(
    ("shape", "map_shape"),
    [((5, 4, 4), (5, 4, 4)), ((4, 4, 5), (5, 4, 4)), ((17, 5), (5, 4, 4))],
)
def test_map_there_and_back(shape, map_shape):
    layout = Layout(shape, SQUARE)
    z = torch.randn(3, *shape)
    places = layout.to_map(z)
    assert layout.has_places and places.shape == (3, *map_shape)
    assert torch.equal(layout.from_map(places, z), z)
    changed = layout.from_map(places + 1, z)
    kept = layout.n_extra * shape[-1] if layout.kind == "tokens" else 0
    assert int((changed == z).sum()) == 3 * kept


def test_places_of_tokens_are_row_by_row():
    z = torch.arange(6.0).reshape(1, 6, 1)
    places = Layout((6, 1), (3, 20, 30)).to_map(z)
    assert places[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("shape", "input_shape"), [((7,), SQUARE), ((5, 4, 4), VECTOR)]
)
def test_vectors_have_no_places(shape, input_shape):
    assert not Layout(shape, input_shape).has_places
