"""Load a checkpoint into a network."""

from sktransfer.backbones._misfits import Misfits, check_finite
from sktransfer.backbones._prefix import without_prefix
from sktransfer.backbones._state_dict import read_state_dict, title_of

__all__ = ["load_checkpoint"]


def load_checkpoint(
    module, weights, *, classifier=list, adapt=dict, advice="", areas=(1, 1)
):
    """Load a checkpoint into a network.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place, and only if everything fits.
    weights : str, os.PathLike or mapping of str to torch.Tensor
        A file, or a state dict.
    classifier : callable, default=list
        Returns the paths of the network's classifying layers (list of str). They may
        be missing from the file or have another number of classes there; they then
        keep what they have. Only called if something does not fit.
    adapt : callable, default=dict
        Makes a state dict for this network of one that does not fit, as by resampling
        position embeddings.
    advice : str, default=""
        What to add to the message if position embeddings have another shape, or layers
        are sized for images of another area.
    areas : (int, int), default=(1, 1)
        Of the images of the weights' own size, and of those that the network takes.

    Raises
    ------
    FileNotFoundError, ValueError
        See :func:`read_state_dict`; also if a tensor is missing, left over, or of
        another shape or kind, in which case the first such tensors are named, or if
        one holds NaN or infinity.
    """
    title, expected = title_of(weights), module.state_dict()
    state = without_prefix(read_state_dict(weights), expected, title)
    optional = ()
    if Misfits(expected, state, optional):
        optional = classifier()
    if misfits := Misfits(expected, state, optional):
        state = _adapted(state, adapt)
        if Misfits(expected, state, optional):
            is_of_size = misfits.of_positions or misfits.is_of_size(areas)
            advice = advice if is_of_size else ""
            name = type(module).__name__
            raise ValueError(f"{title} does not fit {name}: {misfits} {advice}".strip())
    misfits = Misfits(expected, state)
    unfit = {*misfits.shapes, *misfits.kinds}
    fitting = {k: v for k, v in state.items() if k in expected and k not in unfit}
    check_finite(expected, fitting, title)
    module.load_state_dict(fitting, strict=False)


def _adapted(state, adapt):
    try:
        return adapt(dict(state))
    except Exception:  # of another network: its own tensors are named as misfits
        return state
