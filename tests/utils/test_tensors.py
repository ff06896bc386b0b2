import copy
import hashlib
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations, parametrize

from sktransfer.utils import TensorDigests, on_cpu, update_with_tensor


def digest(tensor):
    state = hashlib.sha256()
    update_with_tensor(state, tensor)
    return state.digest()


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    DENSE = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    SCALES = torch.tensor([0.1, 0.2], dtype=torch.float64)
    ZEROS = torch.zeros(2, dtype=torch.int64)
    KINDS = [
        DENSE,
        -DENSE,
        DENSE.half(),
        DENSE.bfloat16(),
        DENSE.to(torch.float8_e5m2),
        DENSE.reshape(4),
        DENSE.bool(),
        DENSE.to(torch.complex64),
        DENSE.to(torch.complex64).mul(1j),
        DENSE.to("meta"),
        DENSE.to_sparse(),
        DENSE.to_sparse_csr(),
        DENSE.to_sparse_csc(),
        torch.nested.nested_tensor([DENSE, DENSE[0:1]]),
        torch.quantize_per_tensor(DENSE, 0.1, 0, torch.quint8),
        torch.quantize_per_tensor(DENSE, 0.2, 0, torch.quint8),
        torch.quantize_per_channel(DENSE, SCALES, ZEROS, 0, torch.quint8),
        torch.quantize_per_channel(DENSE, SCALES, ZEROS, 1, torch.quint8),
        torch.zeros(0),
        torch.zeros(0, 3),
        torch.zeros(()),
    ]


def test_hashes_differ_between_kinds_of_tensors():
    found = [digest(tensor) for tensor in KINDS]
    assert len({*found}) == len(KINDS)
    assert found == [digest(tensor) for tensor in KINDS]


def test_strides_and_gradients_do_not_count():
    images = torch.rand(2, 3, 4, 4)
    last = images.to(memory_format=torch.channels_last)
    assert digest(last) == digest(images)
    assert digest(torch.nn.Parameter(images)) == digest(images)
    assert digest(images.to(torch.complex64).conj()) == digest(
        images.to(torch.complex64).conj().resolve_conj()
    )


def test_digest_is_computed_again_once_a_tensor_was_written_to():
    digests, tensor = TensorDigests(), torch.zeros(3)
    first = digests.digest(tensor)
    assert digests.digest(tensor) == first == digests.digest(torch.zeros(3))
    tensor[0] = 1
    assert digests.digest(tensor) != first
    tensor.data = torch.zeros(3)
    assert digests.digest(tensor) == first


def test_digests_of_deleted_tensors_are_discarded():
    digests = TensorDigests()
    for _ in range(3):
        digests.digest(torch.zeros(3))
    assert digests._known == {}


@pytest.mark.parametrize("make", [lambda t: t.to_sparse(), torch.clone])
def test_tensors_without_a_version_are_hashed_each_time(make):
    digests = TensorDigests()
    with torch.inference_mode():
        tensor = make(torch.ones(3))
        first = digests.digest(tensor)
        tensor.mul_(2)
    assert digests.digest(tensor) != first


def test_module_on_the_cpu_is_returned_as_it_is():
    module = nn.Sequential(nn.Linear(3, 2), nn.LazyLinear(2))
    assert on_cpu(module) is module


def test_module_on_another_device_is_copied_and_unchanged():
    with FakeTensorMode():
        layer = nn.LayerNorm(2, device="cuda").requires_grad_(False)
        module = nn.Sequential(layer, nn.BatchNorm1d(2), layer)
        module[1].scale = torch.ones(2, device="cuda")
        copied = on_cpu(module)
        for tensor in (*copied.parameters(), *copied.buffers(), copied[1].scale):
            assert tensor.device.type == "cpu"
        assert layer.weight.device.type == "cuda"
        assert module[1].scale.device.type == "cuda"
    assert copied[0] is copied[2]
    assert copied[1].weight is module[1].weight
    flags = [p.requires_grad for p in copied.parameters()]
    assert flags == [p.requires_grad for p in module.parameters()]
    assert flags == [False, False, True, True]


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_module_with_parametrizations_is_pickled_exactly(kind):
    layer = getattr(parametrizations, kind)(nn.Linear(4, 4))
    module = nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2)).eval()
    x, kept = torch.randn(3, 4), on_cpu(module)
    for twin in (pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept)):
        assert torch.equal(twin(x), module(x))
        assert twin.state_dict().keys() == module.state_dict().keys()
        assert parametrize.is_parametrized(twin[0], "weight")
        assert twin.train()(x).requires_grad
    assert parametrize.is_parametrized(layer)  # which is unchanged
