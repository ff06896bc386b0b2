"""Check whether a network's output for a sample is a function of that sample alone."""

import copy
import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from sktransfer.backbones._boundaries import is_plain, tensors_in
from sktransfer.compute import (
    DRAW_TRIES,
    is_near,
    map_state,
    seeded_call,
    watched_call,
)

_SEED = 1  # of model inputs; not that of the trace
# Tolerances in other batches and in a second run, relative to the largest value.
_OTHER_BATCH, _SECOND_RUN = 1e-4, 1e-6
_AT = 3  # the sample that also runs alone


@dataclass(frozen=True)
class Trial:
    """A first run of a copy of a network in eval mode."""

    network: nn.Module  # the copy after the run
    x: torch.Tensor | dict | tuple  # the model inputs before the run
    output: object
    drawn: list[str]  # libraries whose global generators were drawn from
    overwrites: bool  # whether the run changed its input


def run_once(module: nn.Module, example) -> Trial:
    """Run a copy of a network on the first inputs of `draw_inputs` that it accepts.

    Raises the error of the network on the last of them.
    """

    def run(x):
        libraries = None
        for _ in range(DRAW_TRIES):
            network, given = copy.deepcopy(module).eval(), copy_state(x)
            output, drawn = watched_call(network, given)
            libraries = [k for k in drawn if libraries is None or k in libraries]
            if not libraries:
                break
        unchanged = is_near(tensors_in(given), tensors_in(x), 0)
        return Trial(network, x, output, libraries, not unchanged)

    return run_on_first(draw_inputs(example), run)


def copy_state(x):
    """Return a copy of model inputs or another state."""
    return map_state(torch.clone, x)


def draw_inputs(example) -> Iterator:
    """Yield model inputs of several kinds, in the shape of an example.

    For a tensor of floating point these are normal numbers, uniform ones on [0, 1) for
    networks that use them as indices or take their logarithms, and the example. Other
    inputs, such as token ids and their mask, cannot be drawn: only the example is
    yielded, whose samples should differ.
    """
    if is_plain(example):
        generator = torch.Generator().manual_seed(_SEED)
        yield torch.randn(*example.shape, generator=generator)
        yield torch.rand(*example.shape, generator=generator)
    yield example


def run_on_first(candidates, run):
    """Return what a function returns for the first candidate that it accepts."""
    for x in candidates:
        try:
            return run(x)
        except Exception as error:  # whatever a network raises
            failed = error
    raise failed


def find_impurity(module: nn.Module, trial: Trial) -> str | None:
    """Return why the output is not a function of the sample alone, or None if it is.

    It is if the network draws nothing, stores nothing, and its output for a sample
    changes neither with the other samples of the batch nor with earlier ones. The trial
    is one of this module with at least five model inputs. The module is not changed.
    """
    if trial.drawn:
        return f"it draws from the generator of {' and of '.join(trial.drawn)}"
    network, x = trial.network, trial.x
    buffers = _state(network, "_buffers")
    some = _smallest_batch(network, trial)
    alone = _output(network, x, some)
    state = _state(network)
    again = _output(network, x, some)
    moved = _differing(state, _state(network)) or _differing(
        buffers, _state(network, "_buffers")
    )
    if moved:
        return f"a forward pass changes its {moved}"
    if not is_near(again, alone, _SECOND_RUN):
        return "the same input gives something else a second time"
    in_batch = [_rows(trial.output, _n(x), some), _beside_another(network, x, some)]
    if not is_near(_output(_fresh(module), x, some), alone, _OTHER_BATCH):
        return "what it makes of a sample depends on the samples before it"
    agree = all(_agree(alone, other) for other in in_batch)
    if not (agree or _agrees_in_float64(module, x, some)):
        return "what it makes of a sample depends on the other samples of the batch"
    return _changed_parameter(network, module)


def impurity_of(module: nn.Module, example) -> str | None:
    """Return why the output of a module is not a function of the sample alone, or None.

    ``example`` holds at least five inputs. The module is not changed.
    """
    module = copy.deepcopy(module).cpu()
    try:
        return find_impurity(module, run_once(module, example))
    except torch.OutOfMemoryError:
        return None  # smaller batches may do
    except Exception as error:  # whatever a module raises
        return f"it cannot be run on {_n(example)} samples at once ({error})"


def _n(x):
    return len(tensors_in(x)[0])


def _fresh(module):
    return copy.deepcopy(module).eval()


def _output(network, x, some):
    """List the tensors that a network returns for some samples."""
    return tensors_in(seeded_call(network, map_state(lambda t: t[some].clone(), x)))


def _beside_another(network, x, some):
    """List the output for some samples in a batch with another one.

    That is zeros, as at the end of a batch, or the first sample if inputs are no plain
    tensor, as a sequence of length zero may not be valid.
    """
    change = torch.zeros_like if is_plain(x) else torch.clone
    batch = map_state(lambda t: torch.cat([t[some], change(t[:1])]), x)
    return _rows(seeded_call(network, batch), _n(batch), slice(0, -1))


def _changed_parameter(network, module):
    """Say which parameter a forward pass changed; None if it changed none."""
    for (name, a), b in zip(
        network.named_parameters(), module.parameters(), strict=True
    ):
        if not torch.allclose(a, b, rtol=0, atol=0, equal_nan=True):
            return f"a forward pass changes its parameter {name!r}"
    return None


def _agrees_in_float64(module, x, some):
    """Return whether outputs in other batches agree in float64, but for rounding."""
    network = _fresh(module).double()
    x = map_state(lambda t: t.double() if t.is_floating_point() else t.clone(), x)
    try:
        alone = _output(network, x, some)
        in_batch = _rows(seeded_call(network, copy_state(x)), _n(x), some)
        beside = _beside_another(network, x, some)
        return all(_agree(alone, other) for other in (in_batch, beside))
    except Exception:  # of layers that are made for float32
        return False


def _smallest_batch(network, trial):
    """Return the slice of one sample, or of two if one alone is not accepted."""
    one, two = slice(_AT, _AT + 1), slice(_AT, _AT + 2)
    expected = _rows(trial.output, _n(trial.x), one)
    shapes = [None if t is None else t.shape for t in expected]
    try:
        found = _output(network, trial.x, one)
    except Exception:  # whatever a network raises
        return two
    same = len(found) == len(shapes) and all(
        shape in (None, t.shape) for t, shape in zip(found, shapes, strict=True)
    )
    return one if same else two


def _rows(value, n, place):
    """List the rows of n samples in an output; None for tensors without such rows."""
    return [t[place] if t.shape[:1] == (n,) else None for t in tensors_in(value)]


def _agree(alone, others):
    pairs = [(a, b) for a, b in zip(alone, others, strict=True) if b is not None]
    return is_near(*zip(*pairs, strict=True), _OTHER_BATCH) if pairs else True


def _state(network, *names):
    """Return bytes for each buffer and attribute that a forward pass may change."""
    state = {}
    for path, module in network.named_modules():
        kept = vars(module) if not names else {n: vars(module)[n] for n in names}
        for name, value in kept.items():
            if name in _STRUCTURE:
                continue
            parts = value.items() if name == "_buffers" else [(name, value)]
            for key, part in parts:
                kind = "buffer" if name == "_buffers" else "attribute"
                place = f"{path}.{key}" if path else key
                state[f"{kind} {place!r}"] = _describe(part)
    return state


_STRUCTURE = {*vars(nn.Module())} - {"_buffers"}


def _differing(before, after):
    """Return the first key whose values differ; None if none do."""
    keys = [*before, *(key for key in after if key not in before)]
    return next((k for k in keys if before.get(k) != after.get(k)), None)


def _describe(value):
    """Return bytes that change with a value; empty ones if it cannot be pickled."""
    file = io.BytesIO()
    try:
        _Pickler(file).dump(value)
    except Exception:  # what refuses to be pickled
        return b""
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Writes values of tensors and generators, and names of code and layers."""

    def reducer_override(self, obj):
        if isinstance(obj, torch.Tensor):
            plain = obj.detach().cpu().contiguous().reshape(-1)
            raw = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
            return tuple, ((str(obj.dtype), tuple(obj.shape), raw),)
        if isinstance(obj, torch.Generator):
            return bytes, (obj.get_state().numpy().tobytes(),)
        if isinstance(obj, nn.Module) or (callable(obj) and not isinstance(obj, type)):
            return str, (type(obj).__name__,)
        return NotImplemented
