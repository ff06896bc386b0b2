"""Networks that are no sequence of layers are a single stage."""

import pytest
import torch
import transformers

from sktransfer.backbones._transformer import staged_transformer
from tests._transformers import CONFIGS

INPUTS = {
    "ids": torch.arange(3, 19).expand(3, -1),
    "mask": torch.arange(16) < torch.tensor([[15], [9], [12]]),
}


class Odd(transformers.BertModel):
    """A network with something after its layers that is no part of its own."""

    def forward(self, **inputs):
        output = super().forward(**inputs)
        return (output[0] + self.encoder.layer[0](output[0])[0],)


class Mixing(transformers.BertModel):
    """A network in which padding takes part."""

    def forward(self, **inputs):
        hidden = super().forward(**inputs)[0]
        return (hidden + hidden.mean(1, keepdim=True),)


@pytest.mark.parametrize("kind", [Odd, Mixing])
def test_networks_that_are_no_sequence_of_layers_are_one_stage(kind):
    torch.manual_seed(0)
    model = kind(transformers.BertConfig(**CONFIGS["bert"][1])).eval()
    with pytest.warns(UserWarning, match=rf"{kind.__name__} is a single stage, as it"):
        staged = staged_transformer(model, INPUTS)
    assert [*staged.stages] == ["network"]
    found = staged(INPUTS)
    for i, (ids, mask) in enumerate(zip(*INPUTS.values(), strict=True)):
        expected = model(input_ids=ids[mask][None])[0][0]
        torch.testing.assert_close(found["hidden"][i][mask], expected)
        assert not found["hidden"][i][~mask].any()
    found["hidden"].square().sum().backward()
    assert all(p.grad is not None for p in staged.parameters())


def test_networks_without_hidden_states_are_refused():
    class Broken(transformers.BertModel):
        def forward(self, **inputs):
            raise RuntimeError("shape '[8]' is invalid\nand so on")

    message = (
        r"Broken does not return hidden states \(n, t, c\) of texts of up to 16 tokens "
        r"\(RuntimeError: shape '\[8\]' is invalid\)\."
    )
    with pytest.raises(ValueError, match=message):
        staged_transformer(
            Broken(transformers.BertConfig(**CONFIGS["bert"][1])), INPUTS
        )
