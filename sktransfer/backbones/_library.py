"""What networks of the library transformers have in common, whatever they take."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sktransfer.backbones._layout import StagedModule
from sktransfer.compute import is_near, seeded
from sktransfer.utils import import_optional

OPTIONS = {"trust_remote_code": False}  # code of others is never run
IS_TURNED = "stored_transposed"  # marks linear layers that were a Conv1D
_TOLERANCE = 1e-5  # of the largest value
# Ends of names of norms and directions, in old and new checkpoints, and of the weight.
_NORMED = (
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ("weight_g", "weight_v"),
)


def make_network(library: Any, source: str, config: Any, weights: str | None) -> Any:
    """Make a network without a head; of an encoder and a decoder, the encoder.

    Parameters
    ----------
    library : module
        The library transformers.
    source : str
        Name of a repository, or path of a folder.
    config : transformers.PretrainedConfig
    weights : str or None
        None for random ones.
    """
    if weights is None:
        model = library.AutoModel.from_config(config, **OPTIONS)
    else:
        model = library.AutoModel.from_pretrained(
            source, config=config, dtype="float32", **OPTIONS
        )
    if config.is_encoder_decoder:
        model = model.get_encoder()
    model.config._name_or_path = ""  # where weights lay does not change what they do
    return model.float()


@contextmanager
def without_bars(library: Any) -> Iterator[None]:
    """Show no progress bars while weights on this machine are read."""
    log = library.utils.logging
    was_on = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            log.enable_progress_bar()


def masked_state(hidden: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a state of hidden states (n, t, c), zero at padding, and their mask."""
    return {"hidden": hidden.masked_fill(~mask[..., None], 0), "mask": mask}


def check_stages(model: Any, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Raise a ValueError if the stages compute something else than the network."""
    if not is_near([found], [expected], _TOLERANCE):
        raise ValueError(
            f"{type(model).__name__} cannot be divided into stages, as its layers "
            "together do not compute what it does as a whole."
        )


class LibraryNetwork(StagedModule):
    """A network of transformers in stages, with the names that it has in the library.

    Parameters
    ----------
    stages : dict of str to torch.nn.Module
        They share the tensors of the network.
    model : transformers.PreTrainedModel
        The network, without a head.
    **pooling
        ``pooling`` and ``normalize`` of `StagedModule`.
    """

    def __init__(self, stages: Mapping, model: Any, **pooling: Any):
        super().__init__(stages, **pooling)
        known: dict[int, list] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            known.setdefault(id(tensor), []).append(name)
        own = self.state_dict(keep_vars=True)
        self.library_names = {name: known[id(tensor)] for name, tensor in own.items()}
        self._library_model = type(model), model.config

    def adapt(self, state: Mapping) -> dict[str, torch.Tensor]:
        """Rename the tensors of a checkpoint of transformers to those of the stages.

        Parameters
        ----------
        state : dict of str to Tensor
            The checkpoint of a network with or without a head. Tensors of heads and of
            decoders are left out.

        Returns
        -------
        dict of str to Tensor
            Those that were found.
        """
        state = _with_plain_weights(state)
        start = self._start_of_names(state)
        table = f"{start.removesuffix('encoder.')}shared.weight"  # T5 keeps it outside
        if table in state:
            state = {f"{start}embed_tokens.weight": state[table], **state}
        inner = [name for name in state if name.startswith(start)]
        state = {name.removeprefix(start): state[name] for name in inner}
        found = self._renamed(state)
        is_whole = len(found) == len(self.library_names)
        return found if is_whole else self._renamed(self._as_loaded(state))

    def _renamed(self, state):
        """Return the tensors of a network of the library by the names of the stages."""
        found = {}
        for name, theirs in self.library_names.items():
            keys = [their for their in theirs if their in state]
            if keys:
                found[name] = self._as_stored(state[keys[0]], name)
        return found

    def _as_loaded(self, state):
        """Return a checkpoint with names of an earlier version as the library reads it.

        Tensors that it lacks are left out.
        """
        library = import_optional("transformers", feature="A checkpoint", extra="text")
        make, config = self._library_model
        with seeded(0), without_bars(library):
            model, about = make.from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True
            )
        found = _with_plain_weights(model.state_dict())
        return {k: v for k, v in found.items() if k not in about["missing_keys"]}

    def _start_of_names(self, state):
        """Return what stands in front of most names of the network in a checkpoint."""
        starts = Counter(
            key.removesuffix(their)
            for theirs in self.library_names.values()
            for their in theirs
            for key in state
            if key == their or key.endswith(f".{their}")
        )
        return max(starts, key=starts.__getitem__, default="")

    def _as_stored(self, tensor, name):
        """Return a tensor, or the transpose of one that the library stores that way."""
        layer = self.get_submodule(name.rpartition(".")[0])
        is_turned = tensor.ndim == 2 and getattr(layer, IS_TURNED, False)
        return tensor.T.contiguous() if is_turned else tensor


def _with_plain_weights(state):
    """Return a checkpoint with weights in the place of their norms and directions."""
    plain = dict(state)
    for of_norm, of_direction in _NORMED:
        for name in [key for key in state if key.endswith(f".{of_norm}")]:
            start = name.removesuffix(of_norm)
            norm, direction = plain.pop(name), plain.pop(start + of_direction)
            plain[f"{start}weight"] = _product(norm, direction)
    return plain


def _product(norm, direction):
    """Return the weights that PyTorch makes of their norm and direction."""
    holder = nn.Module()
    holder.weight = nn.Parameter(direction)
    axis = max(range(norm.ndim), key=lambda i: norm.shape[i])
    weight_norm(holder, dim=axis).parametrizations.weight.original0.data = norm
    return holder.weight.detach()
