"""What works for each kind of network for texts and for recordings.

On tiny networks with random weights. Prints the tables of the user guide, whose columns
are

- the number of boundaries;
- exact: whether prefix and suffix compute, at every boundary, what the library's own
  ``forward`` does on each sample alone, to 1e-5 of the largest value;
- depths trained: for how many values of `freeze` weights are left to train;
- cached: whether a second ``transform``, up to each layer, sends no sample through any
  part of the network (embeddings alone are a lookup, and not worth storing);
- export: whether the module of ``to_torch`` returns the probabilities of the estimator.

Run from the root of the repository:

    PYTHONPATH=. python benchmarks/sequence_networks.py [KIND ...]
"""

import contextlib
import io
import sys
import tempfile
import warnings
from unittest import mock

import numpy as np
import torch

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor, config_context
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import Waveform
from tests import _speech_networks, _transformers
from tests._recordings import RATE, keep_all, make_tone

TITLES = ("Network", "Boundaries", "Exact", "Depths trained", "Cached", "Export")
N_SAMPLES = 16


class Texts:
    """Networks for texts."""

    kinds = _transformers
    X, y = _transformers.make_texts(N_SAMPLES)

    def expected(self, folder, prepared, i):
        """Return what the library computes for one text (tokens, width)."""
        ids = torch.from_numpy(prepared["ids"][prepared["mask"]])[None]
        return _transformers.plain_network(folder)(input_ids=ids)[0][0]

    def sample(self, i):
        return self.X[i]


class Recordings:
    """Networks for recordings."""

    kinds = _speech_networks
    y = np.arange(N_SAMPLES) % 2
    X = [
        (make_tone(0.1 + i / 30, is_rising=i % 2 == 1, seed=i), RATE)
        for i in range(N_SAMPLES)
    ]

    def expected(self, folder, prepared, i):
        """Return what the library computes for one recording (positions, width)."""
        inputs = _speech_networks.plain_inputs(folder, self.X[i][0])
        return _speech_networks.plain_network(folder)(**inputs)[0][0]

    def sample(self, i):
        return Waveform(*self.X[i])


@torch.no_grad()
def largest_difference(data, folder, backbone):
    """Return the largest difference to the library at any boundary, relative."""
    differences = []
    for i in range(4):
        prepared = backbone.preprocessing.prepare(data.sample(i))
        inputs = {name: torch.from_numpy(part)[None] for name, part in prepared.items()}
        expected = data.expected(folder, prepared, i)
        for stage in backbone.stage_names:
            prefix, suffix = backbone.split(stage)
            state = suffix(prefix(inputs))
            found = state["hidden"][state["mask"]]
            difference = (found - expected[: len(found)]).abs().max()
            differences.append(float(difference / expected.abs().max()))
    return max(differences)


def count_trained(folder, n_stages):
    """Return for how many depths any weight above the frozen stages can be trained."""
    found = 0
    for depth in range(n_stages):
        fork = load_backbone(folder)
        fork.section("input", fork.boundary(depth)).freeze()
        suffix = fork.split(depth)[1]
        found += any(p.requires_grad for p in suffix.parameters())
    return found


def is_cached(data, folder, backbone):
    """Return whether a second `transform` computes nothing, up to each layer.

    All that fits is stored: a network as small as these is often faster than the store.
    """
    process_store().clear()
    passed = []
    with mock.patch.object(_pass, "choose", keep_all):
        for stage in (name for name in backbone.stage_names if "layer" in name):
            extractor = PretrainedFeatureExtractor(folder, stage=stage).fit(data.X)
            for _ in range(2):
                forward_passes().clear()
                extractor.transform(data.X)
                passed.append(forward_passes().total())
    return min(passed[::2]) >= N_SAMPLES and not any(passed[1::2])


def exports(data, model):
    """Return whether the exported module has the probabilities of the estimator."""
    try:
        module = model.to_torch()
    except (TypeError, ValueError):
        return False
    ids = torch.from_numpy(model.preprocessing_.prepare(data.X[0])["ids"])[None]
    expected = model.predict_proba(data.X[:1])
    return np.allclose(module(ids), expected, rtol=1e-4, atol=1e-5)


def row(data, kind, folder):
    """Return the row of the table about a kind of network."""
    folder = data.kinds.save_network(folder, kind)
    backbone = load_backbone(folder)
    difference, n = largest_difference(data, folder, backbone), len(backbone.stages)
    with config_context(activation_dtype="float32"):
        model = FineTunedClassifier(folder, freeze=1, max_epochs=1, random_state=0)
        exported = exports(data, model.fit(data.X, data.y))
    return (
        kind,
        n,
        "yes" if difference < 1e-5 else f"no ({difference:.0e})",
        f"{count_trained(folder, n)} of {n}",
        "yes" if is_cached(data, folder, backbone) else "no",
        "yes" if exported else "no",
    )


def main():
    """Print the tables as reStructuredText."""
    for data in (Texts(), Recordings()):
        lines = [".. list-table::", "   :header-rows: 1", ""]
        lines += table_row(TITLES)
        for kind in data.kinds.CONFIGS:
            if len(sys.argv) > 1 and kind not in sys.argv[1:]:
                continue
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.redirect_stderr(io.StringIO()):
                    lines += table_row(row(data, kind, folder))
            print(*lines, sep="\n", flush=True)
            lines = []
        print()


def table_row(values):
    """Return the lines of a row of a list-table."""
    return [f"   {'*' if not i else ' '} - {value}" for i, value in enumerate(values)]


if __name__ == "__main__":
    main()
