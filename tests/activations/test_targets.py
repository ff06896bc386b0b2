from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from sktransfer.activations import ActivationLayout, Pool, check_pooling
from sktransfer.activations._targets import Route
from sktransfer.backbones import load_backbone
from tests.activations.conftest import PREPROCESSING, small_network

SQUARE, WIDE, VECTOR = (3, 32, 32), (3, 32, 64), (10,)


def random_activation(shape, n=4):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pool_size", [1, 2, 3])
def test_maps_agree_with_torch(pool_size):
    z = random_activation((5, 6, 6))  # (n, c, h, w)
    average = F.adaptive_avg_pool2d(z, pool_size).flatten(1)
    largest = F.adaptive_max_pool2d(z, pool_size).flatten(1)
    both = torch.cat([average, largest], 1)
    for pooling, expected in [("avg", average), ("max", largest), ("avgmax", both)]:
        pool = Pool(pooling, pool_size, z.shape[1:], SQUARE)
        torch.testing.assert_close(pool(z), expected, rtol=0, atol=0)
        last = z.permute(0, 2, 3, 1)
        pool = Pool(pooling, pool_size, last.shape[1:], SQUARE)
        torch.testing.assert_close(pool(last), expected)


def test_average_of_a_map_is_its_mean():
    z = random_activation((5, 6, 6))
    pool = Pool("avg", 1, (5, 6, 6), SQUARE)
    torch.testing.assert_close(pool(z), z.mean((2, 3)))


@pytest.mark.parametrize(
    ("n_tokens", "input_shape", "grid", "n_extra"),
    [
        (16, SQUARE, (4, 4), 0),
        (17, SQUARE, (4, 4), 1),  # a class token
        (18, SQUARE, (4, 4), 2),  # and one of distillation
        (21, SQUARE, (4, 4), 5),  # and four registers
        (9, WIDE, (2, 4), 1),
        (261, SQUARE, (16, 16), 5),
        (197, SQUARE, (14, 14), 1),
        (12, VECTOR, (1, 12), 0),
    ],
)
def test_tokens_are_a_grid(n_tokens, input_shape, grid, n_extra):
    pool = Pool("avg", 1, (n_tokens, 6), input_shape)
    assert (pool.layout.grid, pool.layout.n_extra) == (grid, n_extra)
    z = random_activation((n_tokens, 6))
    torch.testing.assert_close(pool(z), z[:, n_extra:].mean(1))
    pool = Pool("max", 1, (n_tokens, 6), input_shape)
    torch.testing.assert_close(pool(z), z[:, n_extra:].amax(1))


def test_tokens_are_pooled_where_they_are_in_the_image():
    z = random_activation((17, 6))
    as_map = z[:, 1:].reshape(4, 4, 4, 6).permute(0, 3, 1, 2)  # (n, c, h, w)
    expected = F.adaptive_avg_pool2d(as_map, 2).flatten(1)
    torch.testing.assert_close(Pool("avg", 2, (17, 6), SQUARE)(z), expected)


def test_tokens_of_no_grid_are_divided_lengthwise():
    z = random_activation((1000, 6))
    pool = Pool("avg", 2, (1000, 6), VECTOR)
    halves = torch.stack([z[:, :500].mean(1), z[:, 500:].mean(1)], -1)  # (n, c, 2)
    expected = halves[:, :, None].expand(-1, -1, 2, -1).flatten(1)
    torch.testing.assert_close(pool(z), expected)


def test_cls_is_the_first_token():
    z = random_activation((17, 6))
    assert torch.equal(Pool("cls", 1, (17, 6), SQUARE)(z), z[:, 0])


@pytest.mark.parametrize("shape", [(6,), (5, 4, 4), (4, 4, 5), (17, 6), (2, 3, 4, 5)])
def test_flatten_keeps_all(shape):
    z = random_activation(shape)
    assert torch.equal(Pool("flatten", 1, shape, SQUARE)(z), z.reshape(4, -1))


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax"])
def test_vectors_stay_as_they_are(pooling):
    z = random_activation((6,))
    assert torch.equal(Pool(pooling, 2, (6,), SQUARE)(z), z)


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "flatten"])
@pytest.mark.parametrize("pool_size", [1, 3])
@pytest.mark.parametrize("shape", [(6,), (5, 4, 4), (4, 4, 5), (17, 6), (2, 3, 4, 5)])
def test_n_features_is_what_comes_out(pooling, pool_size, shape):
    pool = Pool(pooling, pool_size, shape, SQUARE)
    assert pool(random_activation(shape)).shape == (4, pool.n_features(shape))


def test_n_features_of_cls():
    assert Pool("cls", 1, (17, 6), SQUARE).n_features((17, 6)) == 6


def test_repr_distinguishes_pools():
    pool = Pool("avg", 2, (5, 4, 4), SQUARE)
    assert repr(pool) == "Pool('avg', pool_size=2, layout='channels_first')"


@pytest.mark.parametrize("shape", [(6,), (5, 4, 4), (16, 6)])
def test_cls_needs_a_class_token(shape):
    with pytest.raises(ValueError, match="`pooling='cls'` needs a class token") as info:
        check_pooling("cls", shape, SQUARE, "layer3")
    assert f"stage 'layer3' has none: its shape is {shape}. Use 'avg'" in str(
        info.value
    )


def test_check_pooling_passes():
    check_pooling("cls", (17, 6), SQUARE, "blocks.3")
    check_pooling("avg", (6,), SQUARE, "blocks.3")


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
    assert ActivationLayout(shape, input_shape).kind == layout


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
    layout = ActivationLayout((n_tokens, 8), input_shape)
    assert (layout.n_extra, layout.grid) == (n_extra, grid)


@pytest.mark.parametrize(
    ("shape", "map_shape"),
    [((5, 4, 4), (5, 4, 4)), ((4, 4, 5), (5, 4, 4)), ((17, 5), (5, 4, 4))],
)
def test_from_map_inverts_to_map(shape, map_shape):
    layout = ActivationLayout(shape, SQUARE)
    z = torch.randn(3, *shape)
    places = layout.to_map(z)
    assert layout.is_spatial and places.shape == (3, *map_shape)
    assert torch.equal(layout.from_map(places, z), z)
    changed = layout.from_map(places + 1, z)
    kept = layout.n_extra * shape[-1] if layout.kind == "tokens" else 0
    assert int((changed == z).sum()) == 3 * kept


def test_places_of_tokens_are_row_by_row():
    z = torch.arange(6.0).reshape(1, 6, 1)
    places = ActivationLayout((6, 1), (3, 20, 30)).to_map(z)
    assert places[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("shape", "input_shape"), [((7,), SQUARE), ((5, 4, 4), VECTOR)]
)
def test_vectors_and_other_shapes_are_not_spatial(shape, input_shape):
    assert not ActivationLayout(shape, input_shape).is_spatial


CHAIN = ["input", "0", "1", "2", "3"]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(small_network(), preprocessing=PREPROCESSING)


def test_stages_are_passed_one_by_one(backbone):
    route = Route(backbone, ["3"])
    assert route.chain == CHAIN
    assert route.steps("input") == list(pairwise(CHAIN))
    assert route.steps("2") == [("2", "3")]
    assert route.steps("3") == []
    assert route.starts == CHAIN[::-1]


def test_only_what_is_needed_is_computed(backbone):
    assert Route(backbone, ["1"]).chain == CHAIN[:3]
    assert Route(backbone, ["input"]).steps("input") == []


def test_steps_from_the_first_start_reach_all_targets(backbone):
    route = Route(backbone, ["3", "1"])
    assert route.wanted == ["1", "3"]
    assert route.starts == ["1", "0", "input"]
    assert route.steps("1") == [("1", "2"), ("2", "3")]


def test_nothing_is_computed_from_inside_a_stage(backbone):
    inside = "2.1"
    assert inside in backbone.boundaries
    route = Route(backbone, [inside, "3"])
    assert route.starts == ["1", "0", "input"]
    assert route.steps("1") == [("1", "2"), ("2", "3"), ("1", inside)]


def test_a_boundary_after_the_last_stage_comes_from_its_end(backbone):
    route = Route(backbone, ["features"])
    assert route.steps("3") == [("3", "features")]
    assert route.starts == ["features", *CHAIN[::-1]]
    assert route.steps("features") == []


SEQUENCE = {"hidden": (4, 5), "mask": (4,)}


def test_sequences_are_pooled_over_their_real_positions():
    z = random_activation((4, 5), n=3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    state = {"mask": mask, "hidden": z}
    average, largest = (
        Pool(pooling, 3, SEQUENCE, VECTOR)(state) for pooling in ("avg", "max")
    )
    torch.testing.assert_close(
        average[:2], torch.stack([z[0, :2].mean(0), z[1].mean(0)])
    )
    assert torch.equal(largest[:2], torch.stack([z[0, :2].amax(0), z[1].amax(0)]))
    assert not average[2].any() and not largest[2].any()
    both = Pool("avgmax", 1, SEQUENCE, VECTOR)
    assert torch.equal(both(state), torch.cat([average, largest], 1))
    assert both.n_features(SEQUENCE) == 10 and not both.layout.is_spatial
    assert torch.equal(Pool("cls", 1, SEQUENCE, VECTOR)(state), z[:, 0])
    whole = Pool("avg", 1, {"hidden": (4, 5)}, VECTOR)({"hidden": z})
    torch.testing.assert_close(whole, z.mean(1))


def test_windows_of_sequences_are_pooled_together():
    z = random_activation((2, 4, 5), n=3)  # two windows of four tokens
    lengths = torch.tensor([[4, 2], [1, 3], [3, 3]])
    mask = torch.arange(4) < lengths[..., None]
    state, shape = {"hidden": z, "mask": mask}, {"hidden": (2, 4, 5), "mask": (2, 4)}
    tokens = [z[i][mask[i]] for i in range(3)]
    last = [z[i, [0, 1], lengths[i] - 1].mean(0) for i in range(3)]
    expected = {
        "avg": torch.stack([part.mean(0) for part in tokens]),
        "max": torch.stack([part.amax(0) for part in tokens]),
        "cls": z[:, :, 0].mean(1),
        "last": torch.stack(last),
    }
    for pooling, features in expected.items():
        pool = Pool(pooling, 1, shape, VECTOR)
        torch.testing.assert_close(pool(state), features)
        assert pool.n_features(shape) == 5


def test_sequences_cannot_be_flattened():
    check_pooling("cls", SEQUENCE, VECTOR, "layer")
    with pytest.raises(
        ValueError, match="`pooling='flatten'` needs activations of one"
    ):
        check_pooling("flatten", SEQUENCE, VECTOR, "layer")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pooling", ["avg", "flatten"])
def test_pooled_values_are_float32(pooling, dtype):
    z = torch.randn(2, 3, 4, 4)
    pool = Pool(pooling, 1, (3, 4, 4), (3, 8, 8))
    found = pool(z.to(dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pool(z), atol=2e-2, rtol=2e-2)
