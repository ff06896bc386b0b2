import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file
from sktransfer.backbones._state_dict import read_state_dict, title_of, without_prefix
from torch import nn


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_file_and_mapping_are_the_same(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    for weights in (path, str(path), state):
        found = read_state_dict(weights)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)
    assert title_of(path) == f"The checkpoint {str(path)!r}"
    assert title_of(state) == "The state dict in `weights`"


def test_names_in_mappings_are_joined(state, tmp_path):
    optimizer = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1}]}
    content = {"net": {"ema": state}, "epoch": 3, "optimizer": optimizer}
    for weights in (content, save(content, tmp_path / "weights.pth")):
        assert [*read_state_dict(weights)] == ["net.ema.a.weight", "net.ema.a.bias"]
    with pytest.raises(ValueError, match="in `weights` holds no weights by name."):
        read_state_dict({"optimizer": optimizer, "epoch": 3})


def test_missing_file(tmp_path):
    path = str(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file '.*noth"):
        read_state_dict(path)


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    path, victim = tmp_path / "weights.pth", tmp_path / "victim"
    torch.save({"a": Attack(victim)}, path)
    text = (
        "is not plain weights, and nothing else is loaded since a pickle can run code. "
        "Save it again with `torch.save\\(model.state_dict\\(\\), path\\)` or as safe"
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)
    assert not victim.exists()
    path.write_bytes(pickle.dumps(Attack(victim), protocol=2))
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)
    assert not victim.exists()


def test_whole_module_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 3), path)
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_truncated_file(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read; it may be truncated or of"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{}, [torch.zeros(2)], torch.zeros(2)])
def test_file_without_names(tmp_path, content):
    path = save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth' holds no weights by name."):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [({"a": 1, "b": torch.zeros(2)}, "'a'"), ({0: torch.zeros(2)}, "0")],
)
def test_file_with_something_else(tmp_path, content, named):
    path = save(content, tmp_path / "weights.pth")
    text = f"holds \\[{named}\\], which are not tensors by name."
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "special",
    [
        lambda: torch.ones(2, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["meta", "sparse", "quantised"],
)
def test_tensors_that_are_not_plain_are_refused(state, special):
    text = (
        "holds \\['b'\\], which are quantised, sparse or without values \\(on the meta "
        "device\\). Its tensors must be plain ones."
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict({**state, "b": special()})


NAMES = ["stem.weight", "stem.bias", "block.norm.weight", "block.norm.bias", "fc.bias"]
WEIGHTS = {name: torch.full((k + 1,), float(k)) for k, name in enumerate(NAMES)}
AVERAGES = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
STRAY = {"criterion.weight": torch.ones(3), "queue": torch.ones(2)}


def behind(prefix, state=WEIGHTS):
    return {prefix + name: tensor for name, tensor in state.items()}


def found(state, expected=WEIGHTS):
    return without_prefix(state, expected, "The file")


def assert_is(state, expected):
    assert state.keys() == expected.keys()
    assert all(state[name] is expected[name] for name in expected)


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "module.", "_orig_mod.", "student.", "module._orig_mod.lit.net."],
)
def test_prefix_of_most_names_is_taken_off(prefix):
    assert_is(found(behind(prefix)), WEIGHTS)
    if prefix:
        assert_is(found({**STRAY, **behind(prefix)}), WEIGHTS)


def test_names_that_do_not_fit_stay_in_the_set():
    extra = {"model.neck.weight": torch.ones(1)}
    assert found(behind("model.") | extra).keys() == {*WEIGHTS, "neck.weight"}
    assert found(WEIGHTS | STRAY).keys() == {*WEIGHTS, *STRAY}


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module"])
def test_wrappers_inside_a_network_are_taken_off(wrapper):
    inside = {k.replace("norm.", f"norm.{wrapper}."): v for k, v in WEIGHTS.items()}
    assert_is(found(behind("module.", inside)), WEIGHTS)
    assert_is(found(inside, inside), inside)
    both = {**WEIGHTS, **inside}
    assert found(both).keys() == both.keys()


def test_prefix_of_the_network_is_put_on():
    expected = behind("backbone.") | {"head.weight": torch.ones(1)}
    for prefix in ("", "module.", "backbone.", "module.backbone."):
        assert_is(found(behind(prefix), expected), behind("backbone."))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", "ema."),
        ("model.", "ema_model.module."),
        ("model.", "model_ema."),
        ("state_dict.", "state_dict_ema."),
        ("student.module.backbone.", "teacher.backbone."),
        ("net.", "optimizer.exp_avg."),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_trained_weights_are_taken_before_averages(first, second, turned):
    sets = [behind(first), behind(second, AVERAGES)]
    state = sets[1] | sets[0] if turned else sets[0] | sets[1]
    text = (
        f"^The file holds several sets of weights that fit, .*{second}.*Those with "
        f"'{first}' are taken. For another set, pass its tensors as `weights`, a dict"
    )
    with pytest.warns(UserWarning, match=text):
        assert_is(found(state), WEIGHTS)


def test_second_set_alone_is_taken():
    assert_is(found(behind("teacher.")), WEIGHTS)


def test_equal_sets_need_no_choice():
    copies = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    state = found(behind("a.") | behind("b.", copies))
    assert all(torch.equal(state[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("names", [("encoder_q.", "encoder_k."), ("ema.", "swa.")])
def test_sets_that_nothing_tells_apart_are_refused(names):
    first, second = names
    text = (
        f"^The file holds several sets of weights that fit, whose names begin with "
        f"'{first}' and '{second}'. To choose one, pass its tensors as `weights`, a "
        "dict whose names do not begin so any more.$"
    )
    with pytest.raises(ValueError, match=text):
        found(behind(first) | behind(second, AVERAGES))


def test_set_of_other_shapes_is_no_choice():
    large = {name: torch.ones(9) for name in WEIGHTS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is(found(behind("teacher_large.", large) | behind("small.")), WEIGHTS)


def test_other_names_stay_but_for_usual_prefixes():
    other = {f"layer{k}.kernel": torch.ones(1) for k in range(5)}
    assert_is(found(other), other)
    assert_is(found(behind("module.model.", other)), other)
    assert_is(found(behind("strange.", other)), behind("strange.", other))
