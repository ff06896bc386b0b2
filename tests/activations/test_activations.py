import numpy as np
import pytest
import torch

import sktransfer
from sktransfer.activations import Target, load_activations
from sktransfer.activations._activations import _living

pytestmark = pytest.mark.usefixtures("keeping_is_free")


def _load(backbone, name, samples, store, runtime):
    return load_activations(
        backbone, Target(name), samples, store=store, runtime=runtime
    )


def test_batches_are_rows_by_index(backbone, samples, store, runtime):
    activations, _ = _load(backbone, "2", samples, store, runtime)
    everything = torch.cat(list(activations.split(7)))
    assert len(activations) == len(everything) == 20
    assert torch.equal(activations[[4, 1]], everything[[4, 1]])
    assert torch.equal(activations[torch.tensor([19])], everything[[19]])


def test_the_input_gives_model_inputs(backbone, samples, store, runtime):
    activations, _ = _load(backbone, "input", samples, store, runtime)
    prepared = np.stack([backbone.preprocessing.prepare(samples[i]) for i in (2, 0)])
    expected = backbone.preprocessing.to_input(torch.from_numpy(prepared))
    assert torch.equal(activations[[2, 0]], expected)


def test_rows_that_memory_cannot_hold_are_computed_again(
    backbone, samples, store, runtime, passes
):
    held, _ = _load(backbone, "3", samples, store, runtime)
    passes.clear()
    store.memory.clear()
    with sktransfer.config_context(memory_budget=5_000):
        activations, report = _load(backbone, "3", samples, store, runtime)
        assert not report[-1]["kept"]
        assert torch.equal(activations[range(20)], held[range(20)])
    assert sum(n for (_, start, _), n in passes.items() if start == "input") > 20


def test_instances_share_the_budget(backbone, samples, store, runtime):
    first, _ = _load(backbone, "3", samples, store, runtime)
    others_hold = sum(a.nbytes for a in [*_living])
    with sktransfer.config_context(memory_budget=others_hold + first.nbytes // 2):
        second, _ = _load(backbone, "3", samples, store, runtime)
        third, _ = _load(backbone, "3", samples, store, runtime)
        assert first.nbytes // 4 < second.nbytes <= first.nbytes // 2
        assert third.nbytes < first.nbytes // len(samples)
        for activations in (second, third):
            assert torch.equal(activations[range(20)], first[range(20)])
        del second, activations
        again, _ = _load(backbone, "3", samples, store, runtime)
        assert again.nbytes > first.nbytes // 4
