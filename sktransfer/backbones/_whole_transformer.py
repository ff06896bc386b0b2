"""Networks of transformers as a single stage, and the states that stages must equal."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sktransfer.backbones._library import check_stages, masked_state


class WholeTransformer(nn.Module):
    """The only stage of a network that is no sequence of layers.

    With ``alone``, texts run in groups of equal length without padding, as it would
    change what the network makes of them.
    """

    def __init__(self, network, *, alone=False):
        super().__init__()
        self.network = network
        self.alone = alone

    def forward(self, inputs):
        """Return hidden states (n, t, c), zero at padding, and their mask."""
        return by_windows(self._run_alone if self.alone else self._run, inputs)

    def _run(self, inputs):
        given = {"input_ids": inputs["ids"], "attention_mask": inputs["mask"].long()}
        if "types" in inputs:
            given["token_type_ids"] = inputs["types"]
        return state_of(self.network(**given)[0], inputs["mask"])

    def _run_alone(self, inputs):
        n, length = inputs["mask"].shape
        lengths = inputs["mask"].sum(1)
        rows: list = [None] * n
        for size in lengths.unique().tolist():
            at = (lengths == size).nonzero()[:, 0]
            given = {name: part[at, : max(size, 1)] for name, part in inputs.items()}
            for i, row in zip(at.tolist(), self._run(given)["hidden"], strict=True):
                rows[i] = nn.functional.pad(row, (0, 0, 0, length - len(row)))
        return state_of(torch.stack(rows), inputs["mask"])


def state_of(hidden: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return hidden states (n, t, c), zero at padding, and their mask (n, t).

    The padding is left out that a network adds for attention in windows or blocks.
    """
    return masked_state(hidden[:, : mask.shape[1]], mask)


def by_windows(function: Any, state: Mapping) -> dict[str, torch.Tensor]:
    """Call a function on the windows of texts (n, w, t, ...) as on texts (n, t, ...).

    Texts without windows are passed as they are.
    """
    shape = state["mask"].shape
    if len(shape) == 2:
        return function(state)
    windows = {name: part.flatten(0, 1) for name, part in state.items()}
    found = function(windows)
    return {name: part.unflatten(0, shape[:2]) for name, part in found.items()}


@torch.no_grad()
def states_of_texts(model: Any, inputs: Mapping) -> list[tuple[Mapping, torch.Tensor]]:
    """List inputs of two lengths, and what a network makes of each text alone.

    Hidden states (n, t, c) are zero at padding. Raises a ValueError if the network
    cannot be run on them, or returns something else.
    """
    network, length = WholeTransformer(model, alone=True), inputs["mask"].shape[-1]
    shorter = {name: part[..., : length - 3] for name, part in inputs.items()}
    try:
        return [(given, network(given)["hidden"]) for given in (inputs, shorter)]
    except Exception as error:  # whatever a network raises
        raise ValueError(
            f"{type(model).__name__} does not return hidden states (n, t, c) of texts "
            f"of up to {length} tokens ({error_text(error)})."
        ) from error


@torch.no_grad()
def check_states(model: Any, staged: Any, expected: list) -> None:
    """Raise a ValueError if stages compute something else than the network."""
    for given, hidden in expected:
        check_stages(model, staged(given)["hidden"], hidden)


def error_text(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first[:200].rstrip('.')}"
