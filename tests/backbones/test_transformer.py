"""Every kind of network in stages: the same numbers as the library's own forward."""

import pytest
import torch
import transformers

from sktransfer.backbones import load_backbone
from sktransfer.backbones._transformer import staged_transformer
from tests._transformers import (
    CONFIGS,
    DECODERS,
    N_LAYERS,
    make_texts,
    plain_network,
    save_network,
)

TEXTS, _ = make_texts(8)
STAGES = ["embeddings", *(f"layer{i}" for i in range(N_LAYERS))]


@pytest.fixture(scope="module", params=[*CONFIGS])
def network(request, tmp_path_factory):
    """Return a network by its folder, as transformers makes it and in stages."""
    folder = save_network(tmp_path_factory.mktemp(request.param), request.param)
    return request.param, plain_network(folder), load_backbone(folder)


def inputs_of(backbone, texts):
    """Return model inputs of texts in one batch, however long they are."""
    rows = [backbone.preprocessing.prepare(text) for text in texts]
    longest = max(len(row["ids"]) for row in rows)
    padded = {"ids": backbone.preprocessing.pad_id, "mask": False, "types": 0}
    return {
        name: torch.stack(
            [
                torch.nn.functional.pad(
                    torch.from_numpy(row[name]),
                    (0, longest - len(row[name])),
                    value=padded[name],
                )
                for row in rows
            ]
        )
        for name in rows[0]
    }


@torch.no_grad()
def test_stages_compute_what_the_library_does(network):
    kind, plain, backbone = network
    assert backbone.stage_names == STAGES
    assert backbone.own_pooling == ("last" if kind in DECODERS else "avg", False)
    assert backbone.impurity is None
    inputs = inputs_of(backbone, TEXTS)
    expected = []
    for ids, mask in zip(inputs["ids"], inputs["mask"], strict=True):
        found = plain(input_ids=ids[mask][None], output_hidden_states=True)
        expected.append([*found.hidden_states[:-1], found.last_hidden_state])
    for n, stage in enumerate(STAGES):
        prefix, suffix = backbone.split(stage)
        state = prefix(inputs)
        whole = suffix(state)
        for i, mask in enumerate(inputs["mask"]):
            # Padded beside longer texts, each text is what it is alone.
            near = {"rtol": 1e-5, "atol": 1e-5 * float(expected[i][n].abs().max())}
            torch.testing.assert_close(
                state["hidden"][i, mask], expected[i][n][0], **near
            )
            near["atol"] = 1e-5 * float(expected[i][-1].abs().max())
            torch.testing.assert_close(
                whole["hidden"][i, mask], expected[i][-1][0], **near
            )
            assert not state["hidden"][i, ~mask].any()


@torch.no_grad()
def test_windows_of_a_text_do_not_see_each_other(network):
    _, _, backbone = network
    changes = {"max_length": 9, "max_windows": 4, "overlap": 2}
    in_windows = load_backbone(backbone, preprocessing=changes)
    assert in_windows.stage_names == STAGES
    row = in_windows.preprocessing.prepare(" ".join(TEXTS))
    inputs = {name: torch.from_numpy(part) for name, part in row.items()}
    assert inputs["ids"].shape == (4, 12)
    found, expected = {k: v[None] for k, v in inputs.items()}, inputs
    for stage in STAGES:
        found = in_windows.module.stages[stage](found)
        expected = backbone.module.stages[stage](expected)
        assert found["hidden"][0].equal(expected["hidden"])
        assert found["mask"][0].equal(expected["mask"])


def test_gradients_reach_all_weights(network):
    kind, _, backbone = network
    twin = backbone.untraced()
    suffix = twin.split(0)[1].train()
    suffix(inputs_of(backbone, TEXTS))["hidden"].square().sum().backward()
    names = {n for n, p in suffix.named_parameters() if p.grad is None}
    assert names == set()
    shared = {"albert": 1, "t5": N_LAYERS, "mpnet": N_LAYERS, "deberta-v2": N_LAYERS}
    tensors = [p for _, p in suffix.named_parameters(remove_duplicate=False)]
    assert (len({*map(id, tensors)}) < len(tensors)) == (kind in shared)


@torch.no_grad()
@pytest.mark.parametrize("n_tokens", [8, 13])
def test_a_network_that_adds_padding_has_stages(n_tokens):
    torch.manual_seed(0)
    settings = CONFIGS["bert"][1] | {"attention_window": 8}
    model = transformers.LongformerModel(transformers.LongformerConfig(**settings))
    mask = torch.arange(16) < torch.tensor([[15], [9], [12]])
    ids = torch.arange(3, 19).expand(3, -1)
    staged = staged_transformer(model, {"ids": ids, "mask": mask})
    assert [*staged.stages] == STAGES
    ids, mask = ids[:, :n_tokens], mask[:, :n_tokens]
    expected = model(input_ids=ids, attention_mask=mask.long())[0]
    state = {"ids": ids, "mask": mask}
    for stage in staged.stages.values():
        state = stage(state)
        assert state["hidden"].shape[1] == n_tokens
    torch.testing.assert_close(state["hidden"][mask], expected[mask])
