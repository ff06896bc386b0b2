import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.backbones import (
    Backbone,
    StagedModule,
    describe_backbone,
    fingerprint,
    load_backbone,
)
from sktransfer.backbones._layout import _place_of
from sktransfer.compute import map_state
from sktransfer.inputs import VectorPreprocessing

Z = torch.zeros(1, 2)


class Returning(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([Z, Z], "[-1]"),
        ((Z, None), "[-2]"),
        ({"out": Z, "aux": Z}, "['out']"),
        ({"aux": None, "maps": (Z, Z)}, "['maps'][-1]"),
        ([], "[-1]"),
        ({}, "['name']"),
        (Z, ""),
        (3, ".name"),
    ],
)
def test_place_of_a_tensor(value, place):
    assert _place_of(value) == place


class Tokens:
    """Ids and their mask, of seven positions; other batches may be shorter."""

    kind = "text"
    input_shape = {"ids": (7,), "mask": (7,)}

    def example(self, n=2, length=7):
        generator = torch.Generator().manual_seed(n)
        lengths = torch.randint(2, length + 1, (n,), generator=generator)
        lengths[0] = length
        mask = torch.arange(length) < lengths[:, None]
        ids = torch.randint(1, 11, (n, length), generator=generator)
        return {"ids": ids * mask, "mask": mask}

    def with_size(self, image_size):
        return self

    def prepare(self, text):
        ids = np.frombuffer(text.encode()[:7], np.uint8) % 10 + 1
        return {"ids": ids.astype(np.int64), "mask": np.ones(7, bool)}

    def to_input(self, batch):
        return batch


class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)

    def forward(self, tokens):
        return {"z": self.table(tokens["ids"]), "mask": tokens["mask"]}


class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, state):
        z, mask = state["z"], state["mask"]
        change, _ = self.attention(z, z, z, key_padding_mask=~mask, need_weights=False)
        return {"z": z + change, "mask": mask}


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, state):
        weight = state["mask"].unsqueeze(2).float()
        return self.linear((state["z"] * weight).sum(1) / weight.sum(1))


def sequence_model(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages = {"embed": Embed(), "layer0": Attend(), "layer1": Attend()}
        return StagedModule(stages, final=Mean())


@pytest.fixture(scope="module")
def sequences():
    """Return a backbone of tokens. Tests must not change it."""
    return load_backbone(sequence_model(), preprocessing=Tokens())


@pytest.mark.filterwarnings("error")
def test_declared_stages_are_the_boundaries(sequences):
    assert sequences.stage_names == ["embed", "layer0", "layer1"]
    assert list(sequences.boundaries) == sequences.stage_names
    assert sequences.boundary(-1) == "layer0" and sequences.boundary(0) == "input"
    assert sequences.in_order(["output", "layer1", "input"])[0] == "input"
    assert sequences.n_stages_before("layer0") == 2
    assert sequences.impurity is None
    assert isinstance(sequences.network, StagedModule)
    with pytest.raises(ValueError, match="has no boundary 'layer2'.*mean 'layer1'"):
        sequences.boundary("layer2")


def test_shapes_and_costs_of_declared_stages(sequences):
    group = {"z": (7, 8), "mask": (7,)}
    assert sequences.activation_shape("input") == {"ids": (7,), "mask": (7,)}
    assert sequences.activation_shape("layer0") == group
    assert sequences.activation_shape("features") == group
    assert sequences.activation_shape("output") == (3,)
    assert sequences.multiply_adds("input", "embed") == 0
    per_layer = sequences.multiply_adds("embed", "layer0")
    assert per_layer == 7 * 8 * 8 * 4 + 2 * 7 * 7 * 8
    assert sequences.multiply_adds("input", "layer1") == 2 * per_layer
    assert sequences.largest_activation_bytes == 4 * 7 * 9
    table = describe_backbone(sequences)
    assert table["activation_shape"].tolist() == [group] * 3
    assert table["activation_bytes"].tolist() == [4 * 7 * 9] * 3
    assert sequences.classifier_layers() == ["final.linear"]


@pytest.mark.parametrize("length", [4, 7, 12])
def test_sections_of_declared_stages_equal_the_whole(sequences, length):
    x = sequences.preprocessing.example(5, length)
    with torch.no_grad():
        expected = sequences.module(x)
        for where in ("input", "embed", "layer0", "layer1", "features", "output"):
            prefix, suffix = sequences.split(where)
            assert torch.equal(suffix(prefix(x)), expected)
        z = sequences.section("embed", "layer0")(sequences.split("embed")[0](x))
    assert z["z"].shape == (5, length, 8)
    assert fingerprint(prefix) != fingerprint(sequences.split("layer1")[0])


def test_sample_of_declared_stages_is_the_same_alone(sequences):
    x = sequences.preprocessing.example(5)
    prefix = sequences.frozen_section("input", "layer1")
    whole = prefix(x)
    for i in range(5):
        n = int(x["mask"][i].sum())
        alone = prefix(map_state(lambda t, i=i, n=n: t[i : i + 1, :n], x))
        torch.testing.assert_close(alone["z"][0], whole["z"][i, :n])


def test_training_declared_suffix_leaves_frozen_stages_bit_identical():
    backbone = load_backbone(sequence_model(), preprocessing=Tokens())
    before = copy.deepcopy(backbone.module.state_dict())
    prefix, suffix = backbone.split("layer0")
    prefix.freeze()
    suffix.train()
    assert suffix.training and not prefix.train().training
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1)
    x = backbone.preprocessing.example(5)
    suffix(prefix(x)).square().sum().backward()
    optimizer.step()
    after = backbone.module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any(
        n.startswith(("stages.embed", "stages.layer0")) for n in changed
    )


def test_fingerprints_of_declared_stages_change_with_weights(sequences):
    twin = copy.deepcopy(sequences)
    assert twin.fingerprint == sequences.fingerprint
    with torch.no_grad():
        twin.module.stages["layer1"].attention.out_proj.weight += 1
    assert twin.fingerprint != sequences.fingerprint
    for name, same in (("embed", True), ("layer0", True), ("layer1", False)):
        found = twin.prefix_fingerprint(name) == sequences.prefix_fingerprint(name)
        assert found is same
        found = twin.weights_fingerprint(name) == sequences.weights_fingerprint(name)
        assert found is same
    fork = sequences.fork("layer0")
    with torch.no_grad():
        fork.module.stages["embed"].table.weight += 1
    assert fork.prefix_fingerprint("layer0") == sequences.prefix_fingerprint("layer0")
    assert fork.owner("layer0") is sequences and fork.owner("layer1") is fork


def test_declared_backbone_is_pickled(sequences):
    twin = pickle.loads(pickle.dumps(sequences))
    assert twin.stage_names == sequences.stage_names
    assert twin.fingerprint == sequences.fingerprint
    x = twin.preprocessing.example(3)
    assert torch.equal(twin.split(2)[0](x)["z"], sequences.split(2)[0](x)["z"])


class Mixes(nn.Module):
    def forward(self, state):
        return {"z": state - state.mean(0)}


class Overwrites(nn.Module):
    def forward(self, state):
        return state.mul_(2) + 1


class Tuples(nn.Module):
    def forward(self, state):
        return state, state


class First(nn.Module):
    def forward(self, state):
        return state[0]


class Skips(StagedModule):
    def forward(self, x):
        return super().forward(2 * x)


def vectors(module):
    return Backbone(module, preprocessing=VectorPreprocessing(4))


def test_stage_that_mixes_samples_raises_a_warning():
    backbone = vectors(StagedModule([("a", nn.Linear(4, 4)), ("b", Mixes())]))
    text = "none of its activations are stored: .* on the other samples of the batch"
    with pytest.warns(UserWarning, match=text):
        assert backbone.impurity is not None
    assert backbone.activation_shape("features") == {"z": (4,)}
    with pytest.raises(TypeError, match="returns a value of type dict"):
        backbone.activation_shape("output")


@pytest.mark.parametrize(
    ("module", "error", "text"),
    [
        (
            StagedModule({"a": nn.Linear(4, 4), "b": Overwrites()}),
            ValueError,
            "The stages of StagedModule must compute together what it does as a whole, "
            "and must not change their input in place. RuntimeError: what comes after "
            "'a' overwrites it.",
        ),
        (
            Skips({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}),
            ValueError,
            "The stages of Skips must compute .* In eval mode the outputs differ by",
        ),
        (
            StagedModule({"a": Tuples(), "b": First()}),
            TypeError,
            "'stages.a' must return a state: a tensor or a dict of "
            "tensors, the first dimension of each being that of the samples. Got a "
            "value of type tuple.",
        ),
        (
            StagedModule({"a": nn.Linear(5, 4)}),
            ValueError,
            "StagedModule cannot be run on model inputs of shape \\(n, 4\\) .* or the "
            "number of columns of X.",
        ),
    ],
    ids=["overwrites", "computes more", "no state", "cannot be run"],
)
def test_stages_that_break_the_rules_are_refused(module, error, text):
    with pytest.raises(error, match=text):
        vectors(module).stages  # noqa: B018


def test_shape_of_a_group_is_named_when_a_network_cannot_be_run():
    backbone = Backbone(StagedModule({"a": nn.Linear(4, 4)}), preprocessing=Tokens())
    text = "of shape {'ids': \\(n, 7\\), 'mask': \\(n, 7\\)} \\(TypeError: .*\\).$"
    with pytest.raises(ValueError, match=text):
        backbone.stages  # noqa: B018


@pytest.mark.parametrize(
    "names", [[], ["a", "a"], [""], ["a.b"], ["input"], ["keys"], [3]]
)
def test_names_of_declared_stages(names):
    text = "^`stages` must hold at least one module, under distinct names"
    with pytest.raises(ValueError, match=text):
        StagedModule([(name, nn.ReLU()) for name in names])


def test_declared_stages_must_be_modules():
    with pytest.raises(TypeError, match="must be modules. 'a' is a builtin_function"):
        StagedModule({"a": len})


class Ending(nn.Module):
    """Two layers, and what follows them."""

    def __init__(self, end, between=None):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 5)
        self.end = end
        self.between = between

    def forward(self, x):
        z = self.a(x)
        return self.end(self.b(z if self.between is None else self.between(z)))


@pytest.mark.parametrize(
    "end", [torch.mean, lambda z: z[None], lambda z: z.argmax(1), torch.fft.fft]
)
def test_features_are_in_front_of_an_output_that_is_none_of_the_samples(end):
    backbone = load_backbone(Ending(end))
    assert backbone.stage_names == ["a", "b"]
    assert backbone.activation_shape("features") == (5,)


def test_output_without_rows_of_the_samples_is_refused():
    def parts(z):
        return torch.cat([z, -z]).reshape(-1, 4)

    text = (
        r"^Ending must return one row of floating point numbers per sample, as in a "
        r"shape \(n, ...\)\. For n = 2 it returned shape \(4, 5\) of float32\. Wrap it "
        r"in an nn.Module whose `forward` returns such rows\.$"
    )
    with pytest.raises(ValueError, match=text):
        load_backbone(Ending(nn.Identity(), parts)).stages  # noqa: B018
