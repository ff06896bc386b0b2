import pytest
import torch

from sktransfer.advice import _costs
from sktransfer.advice._costs import Cost, free_memory, measure
from sktransfer.advice._reader import StageReader

CPU = torch.device("cpu")


def test_seconds_of_a_fit():
    cost = Cost(prefix_seconds=2.0, step_seconds=0.5, memory=0, stored=0)
    assert cost.seconds(10, 4) == 10 * (2 + 4 * 0.5)


def test_measured_costs_fall_with_the_depth(digits):
    reader = StageReader(image_size=64).read(digits[0])
    names = ["input", "blocks.4", "conv_head"]
    before = [p.requires_grad for p in reader.backbone_.module.parameters()]
    costs = measure(reader.backbone_, reader.samples_, names, CPU)
    full, middle, none = (costs[name] for name in names)
    assert full.step_seconds > middle.step_seconds > none.step_seconds == 0
    assert none.prefix_seconds > middle.prefix_seconds
    assert full.memory > middle.memory > none.memory
    assert none.stored == 1280 * 2 * 2 * 4
    assert [p.requires_grad for p in reader.backbone_.module.parameters()] == before


def test_memory_holds_activations_and_the_state_of_the_optimiser(make_small, digits):
    reader = StageReader(make_small()).read(digits[0])
    cost = measure(reader.backbone_, reader.samples_, ["input"], CPU)["input"]
    weights = 4 * reader.backbone_.n_parameters
    inputs = 32 * 3 * 16 * 16 * 4
    assert cost.memory > 4 * weights + inputs
    assert cost.memory < 4 * weights + 30 * inputs


def test_memory_of_one_step_is_counted_once():
    module = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh())
    reader = StageReader(module).read([[1.0, 2, 3]] * 8)
    cost = measure(reader.backbone_, reader.samples_, ["input"], CPU)["input"]
    kept = 8 * (3 + 64) * 4 * 32 // 8  # what goes into the layers, of 32 samples
    assert cost.memory <= kept + 4 * 4 * (64 * 3 + 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("MemTotal: 9 kB\nMemAvailable:   7 kB\n", 7 * 1024), ("MemFree: 5 kB\n", 12)],
)
def test_free_memory_includes_file_caches(monkeypatch, tmp_path, text, expected):
    path = tmp_path / "meminfo"
    path.write_text(text)
    monkeypatch.setattr(_costs, "_MEMORY_OF_LINUX", str(path))
    monkeypatch.setattr("os.sysconf", {"SC_AVPHYS_PAGES": 3, "SC_PAGE_SIZE": 4}.get)
    assert free_memory(torch.device("cpu")) == expected


def test_free_memory():
    assert free_memory(torch.device("cpu")) > 1_000_000


def test_free_memory_is_none_if_unknown(monkeypatch):
    monkeypatch.setattr(_costs, "_MEMORY_OF_LINUX", "nowhere")
    monkeypatch.delattr("os.sysconf")
    assert free_memory(torch.device("cpu")) is None


def test_measure_of_rows():
    reader = StageReader(torch.nn.Sequential(torch.nn.Linear(3, 4)))
    reader = reader.read([[1.0, 2, 3], [4, 5, 6]])
    cost = measure(reader.backbone_, reader.samples_, ["input"], CPU)["input"]
    assert cost.step_seconds > 0
    assert cost.memory >= 4 * 4 * 16  # weights, gradients, moments
