from dataclasses import replace

import pytest
import torch

from sktransfer.activations._engine import run_section


def test_float32_is_exact(backbone, runtime):
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = backbone.section("input", "2")(x)
    assert torch.equal(run_section(backbone, "input", "2", x, runtime), expected)


def test_no_gradient_and_no_statistics(backbone, runtime):
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    backbone.module.train()
    z = run_section(backbone, "input", "3", torch.rand(4, 3, 32, 32), runtime)
    assert not z.requires_grad
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("precision", "rtol"), [("folded", 1e-5), ("bfloat16", 0.03)])
def test_faster_ways_stay_near(backbone, runtime, precision, rtol):
    x = torch.rand(4, 3, 32, 32)
    exact = run_section(backbone, "input", "3", x, runtime)
    fast = run_section(backbone, "input", "3", x, replace(runtime, precision=precision))
    assert float((fast - exact).norm() / exact.norm()) < rtol
    assert (fast.dtype == torch.bfloat16) == (precision == "bfloat16")


def test_sections_are_prepared_once_for_all_forks(backbone, runtime):
    fast = replace(runtime, precision="folded")
    x = torch.rand(4, 3, 32, 32)
    z = run_section(backbone, "input", "1", x, fast)
    prepared = dict(backbone.prepared_sections)
    fork = backbone.fork("2")
    with torch.no_grad():
        fork.module[3][0].weight.zero_()
    assert torch.equal(run_section(fork, "input", "1", x, fast), z)
    assert backbone.prepared_sections == prepared and not fork.prepared_sections
    run_section(fork, "1", "3", z, fast)
    assert list(fork.prepared_sections) == [("1", "3", x.device, "folded")]
