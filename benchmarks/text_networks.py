"""What works for each kind of network for texts, on tiny ones with random weights.

Prints the table of the user guide: the number of boundaries; whether prefix and suffix
compute what the library's own ``forward`` does on each text alone, to 1e-5 of the
largest value; for how many values of `freeze` weights are left to train; and whether
the module of ``to_torch`` returns the probabilities of the estimator. Run from the root
of the repository:

    PYTHONPATH=. python benchmarks/text_networks.py [KIND ...]
"""

import contextlib
import io
import sys
import tempfile
import warnings

import numpy as np
import torch

from sktransfer import FineTunedClassifier, config_context
from sktransfer.backbones import load_backbone
from tests._transformers import CONFIGS, make_texts, plain_network, save_network

X, Y = make_texts(16)


@torch.no_grad()
def largest_difference(plain, backbone):
    """Return the largest difference to the library at any boundary, relative."""
    differences = []
    for text in X[:4]:
        prepared = backbone.preprocessing.prepare(text)
        inputs = {name: torch.from_numpy(part)[None] for name, part in prepared.items()}
        expected = plain(input_ids=inputs["ids"][inputs["mask"]][None])[0]
        for stage in backbone.stage_names:
            prefix, suffix = backbone.split(stage)
            found = suffix(prefix(inputs))["hidden"][inputs["mask"]]
            difference = (found - expected[0]).abs().max() / expected.abs().max()
            differences.append(float(difference))
    return max(differences)


def exports(model):
    """Return whether the exported module has the probabilities of the estimator."""
    ids = torch.from_numpy(model.preprocessing_.prepare(X[0])["ids"])[None]
    found, expected = model.to_torch()(ids), model.predict_proba(X[:1])
    return "yes" if np.allclose(found, expected, rtol=1e-4, atol=1e-5) else "no"


def row(kind, folder):
    """Return the row of the table about a kind of network."""
    folder = save_network(folder, kind)
    backbone = load_backbone(folder)
    difference = largest_difference(plain_network(folder), backbone)
    n, depths = len(backbone.stages), [*range(len(backbone.stages))]
    trained = [depth for depth in depths if is_trained(folder, depth)]
    with config_context(activation_dtype="float32"):
        model = FineTunedClassifier(folder, freeze=1, max_epochs=1, random_state=0)
        exported = exports(model.fit(X, Y))
    return (
        kind,
        str(n),
        "yes" if difference < 1e-5 else f"no ({difference:.0e})",
        f"{len(trained)} of {len(depths)}",
        exported,
    )


def is_trained(folder, depth):
    """Return whether any weight above so many frozen stages can be trained."""
    fork = load_backbone(folder)
    fork.section("input", fork.boundary(depth)).freeze()
    return any(p.requires_grad for p in fork.split(depth)[1].parameters())


TITLES = ("Network", "Boundaries", "Exact", "Depths trained", "Export")


def main():
    """Print the table as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    lines += table_row(TITLES)
    for kind in sys.argv[1:] or CONFIGS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                lines += table_row(row(kind, folder))
        print(*lines, sep="\n", flush=True)
        lines = []


def table_row(values):
    """Return the lines of a row of a list-table."""
    return [f"   {'*' if not i else ' '} - {value}" for i, value in enumerate(values)]


if __name__ == "__main__":
    main()
