import warnings

import pytest
import torch

from sktransfer.backbones._prefix import without_prefix

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
