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
