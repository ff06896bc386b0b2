import pytest
import torch

from sktransfer.compute import (
    join_states,
    map_state,
    n_samples,
    split_state,
    take_rows,
)

Z = torch.arange(30.0).reshape(5, 3, 2)
MASK = torch.tensor([[1, 1, 0]] * 5).bool()


@pytest.mark.parametrize(
    "state", [Z, {"hidden": Z, "mask": MASK}], ids=["tensor", "group"]
)
def test_states_are_taken_apart_and_joined(state):
    def parts(some):
        return [*some.values()] if isinstance(some, dict) else [some]

    assert n_samples(state) == 5
    split = split_state(state, 2)
    assert [n_samples(part) for part in split] == [2, 2, 1]
    joined = join_states(split)
    for one, other in zip(parts(joined), parts(state), strict=True):
        assert torch.equal(one, other)
    taken = take_rows(state, torch.tensor([3, 0]))
    assert torch.equal(parts(taken)[0], Z[[3, 0]])
    halved = map_state(lambda z: z.half(), state)
    assert all(part.dtype == torch.float16 for part in parts(halved))


def test_shorter_samples_are_filled_up_with_zeros():
    short = {"hidden": Z[:2, :1], "mask": MASK[:2, :1]}
    joined = join_states([short, {"hidden": Z, "mask": MASK}])
    assert joined["hidden"].shape == (7, 3, 2) and joined["mask"].dtype == torch.bool
    assert torch.equal(joined["hidden"][:2, :1], Z[:2, :1])
    assert not joined["hidden"][:2, 1:].any() and not joined["mask"][:2, 1:].any()
    assert torch.equal(joined["hidden"][2:], Z)
