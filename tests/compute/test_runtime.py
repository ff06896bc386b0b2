import os

import joblib
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from torch import nn

from sktransfer.compute import (
    Runtime,
    _runtime,
    channels_last,
    gains_by_bfloat16,
    halving,
    has_device,
    join_states,
    map_state,
    n_samples,
    pad_rows,
    resolve_batch_size,
    resolve_device,
    resolve_precision,
    split_state,
    synchronise,
    take_rows,
    use_channels_last,
)

CPU = torch.device("cpu")
MB = 2**20
Z = torch.arange(30.0).reshape(5, 3, 2)
MASK = torch.tensor([[1, 1, 0]] * 5).bool()


def test_key_ignores_settings_that_change_no_result():
    assert Runtime(CPU, 8).key == Runtime(CPU, 8, verbose=1).key


@pytest.mark.parametrize(
    "other",
    [
        Runtime(torch.device("mps"), 8),
        Runtime(CPU, 9),
        Runtime(CPU, 8, "bfloat16"),
        Runtime(CPU, 8, activation_dtype="float32"),
        Runtime(CPU, 8, most_positions=64),
    ],
    ids=["device", "batch_size", "precision", "activation_dtype", "most_positions"],
)
def test_key_holds_settings_that_change_a_result(other):
    assert Runtime(CPU, 8).key != other.key


@pytest.mark.parametrize(("length", "size"), [(4, 8), (8, 8), (16, 4), (99, 1)])
def test_long_sequences_are_computed_in_smaller_batches(length, size):
    runtime = Runtime(CPU, 8, most_positions=64)
    state = {"hidden": torch.zeros(3, length, 2), "mask": torch.ones(3, length)}
    assert runtime.size_for(state, 8) == size
    assert runtime.size_for(state["hidden"], 8) == 8
    assert Runtime(CPU, 8).size_for(state, 8) == 8


def test_the_key_holds_switches_of_torch():
    before = Runtime(CPU, 8).key
    torch._C._set_mkldnn_enabled(False)
    changed = Runtime(CPU, 8).key
    torch._C._set_mkldnn_enabled(True)
    assert changed != before
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    changed = Runtime(CPU, 8).key
    torch.set_float32_matmul_precision(precision)
    assert changed != before == Runtime(CPU, 8).key


def test_synchronise_does_nothing_on_a_cpu():
    assert synchronise(torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_prefers_a_gpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("device", ["cpu", CPU])
def test_device_by_name_or_itself(device):
    assert resolve_device(device) == CPU
    assert has_device(device)


def pretend_gpus(patch, n):
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: n)


@pytest.mark.parametrize(("n", "index"), [(1, None), (2, None)])
def test_auto_of_a_main_process_is_the_current_gpu(monkeypatch, n, index):
    pretend_gpus(monkeypatch, n)
    assert resolve_device("auto") == torch.device("cuda", index)


def device_of_worker(n):
    """Return a worker and its device, where a machine has n GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        pretend_gpus(patch, n)
        return os.getpid(), resolve_device("auto")


def test_auto_spreads_workers_over_gpus():
    with joblib.Parallel(n_jobs=2, batch_size=1) as parallel:
        several = {*parallel(joblib.delayed(device_of_worker)(2) for _ in range(6))}
        alone = {*parallel(joblib.delayed(device_of_worker)(1) for _ in range(6))}
    get_reusable_executor().shutdown()  # its workers outlive a test otherwise
    gpus = [torch.device("cuda", 0), torch.device("cuda", 1)]
    devices = [device for _, device in several]
    assert len({*devices}) == len({pid for pid, _ in several}) == len(devices)
    assert {*devices} <= {*gpus}
    assert {device for _, device in alone} == {torch.device("cuda")}


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xpu:99", "meta"])
def test_unknown_device(device):
    rule = "`device` must be 'auto', 'accelerate' or a device of this machine"
    with pytest.raises(ValueError, match=rule) as info:
        resolve_device(device)
    assert f"such as 'cpu'. Got {device!r}: " in str(info.value)
    assert not has_device(device)


@pytest.mark.parametrize(
    ("sample_bytes", "size"),
    [(0, 16), (4, 16), (MB, 16), (2 * MB, 16), (5 * MB, 6), (100 * MB, 4)],
)
def test_auto_batch_size_keeps_activations_small(sample_bytes, size):
    assert resolve_batch_size("auto", CPU, sample_bytes) == size


def test_batch_size_on_a_gpu_or_given():
    assert resolve_batch_size("auto", torch.device("cuda"), 100 * MB) == 128
    assert resolve_batch_size(7, CPU, 100 * MB) == 7


@pytest.mark.parametrize(
    "flag", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"]
)
def test_cpu_gains_if_it_has_either_instruction(monkeypatch, flag):
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for name in names:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not gains_by_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, flag, lambda: True)
    assert gains_by_bfloat16(CPU)


@pytest.mark.parametrize(("capability", "gains"), [((7, 5), False), ((9, 0), True)])
def test_gpu_gains_since_ampere(monkeypatch, capability, gains):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert gains_by_bfloat16(torch.device("cuda")) is gains


def test_other_devices_do_not_gain():
    assert not gains_by_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(("gains", "expected"), [(True, "bfloat16"), (False, "folded")])
def test_auto_precision_depends_on_the_device(monkeypatch, gains, expected):
    monkeypatch.setattr(_runtime, "gains_by_bfloat16", lambda device: gains)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("float32", CPU) == "float32"


class Small:
    """Simulated memory for a number of samples."""

    def __init__(self, room):
        self.room = room
        self.tried = []

    def __call__(self, size):
        self.tried.append(size)
        if size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return f"{size} at a time"


def test_halving_keeps_a_size_that_fits():
    small = Small(8)
    assert halving(small, 8, CPU) == ("8 at a time", 8)
    assert small.tried == [8]


def test_halving_halves_until_the_size_fits():
    small = Small(3)
    text = (
        "^The memory of cpu is too small for so many samples at a time: going on with "
        "[25]. `batch_size` sets it.$"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        assert halving(small, 11, CPU) == ("2 at a time", 2)
    assert small.tried == [11, 5, 2]
    assert len(caught) == 2


@pytest.mark.filterwarnings("ignore:The memory of cpu")
def test_halving_raises_if_one_sample_does_not_fit():
    text = (
        "^The memory of cpu is too small for one sample. Go home. Take a smaller "
        "`image_size` or backbone, or device='cpu'.$"
    )
    with pytest.raises(MemoryError, match=text) as error:
        halving(Small(0), 4, CPU, "Go home. ")
    assert isinstance(error.value.__cause__, torch.OutOfMemoryError)


def test_kernels_have_their_channels_last_and_the_same_values():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(4, 4, 3), nn.Linear(4, 2))
    before = [p.clone() for p in module.parameters()]
    assert use_channels_last(module) is module
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not module[0].weight.is_contiguous()
    for parameter, values in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, values)
    z = module[0](torch.rand(2, 3, 8, 8))
    assert z.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 7, 3), (4, 6)])
def test_maps_get_the_layout_of_their_kernels(shape):
    z = torch.randn(*shape).transpose(0, 1)
    laid = channels_last(z)
    torch.testing.assert_close(laid, z, rtol=0, atol=0)
    wanted = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    assert laid.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_pad_rows_appends_zeros(shape):
    z = torch.ones(2, *shape)
    padded = pad_rows(z, 4)
    assert torch.equal(padded[:2], z) and torch.equal(padded[2:], torch.zeros_like(z))
    assert pad_rows(z, 2) is z and pad_rows(z, 1) is z


@pytest.mark.parametrize(
    "state", [Z, {"hidden": Z, "mask": MASK}], ids=["tensor", "group"]
)
def test_states_are_split_and_joined(state):
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
