"""Whether a way to adapt features can be chosen without labels of the target.

Per shift, six linear heads on the same features are compared: source only, the features
of each domain centred or standardised, and centroids as by default, without the test
for a gap, and with a strong prior. Each score picks the head for which it is highest,
and its regret is how far the accuracy of this head is below that of the best. The
scores are the negative entropy of the predictions, the mutual information of samples
and predictions, soft neighbourhood density (Saito et al., 2021) and importance-weighted
validation (Sugiyama et al., 2007). For comparison, heads that are always taken.
"""

import numpy as np
import pandas as pd
import torch
from common import parser
from domains import PACS_SCALE, SCALES, shifts
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from sktransfer import PretrainedFeatureExtractor
from sktransfer.adaptation._centroids import LinearHead, adapt_head, measure_source
from sktransfer.training import fit_probe


def probe(Z, y, n_classes):
    layer, *_ = fit_probe(torch.from_numpy(Z).float(), y, n_classes, C="auto")
    return layer


def heads(Z, y, target):
    """Return functions from features of the target to scores, by name."""
    n_classes = y.max() + 1
    layer = probe(Z, y, n_classes)
    source = measure_source(torch.from_numpy(Z), layer)
    plain = LinearHead(source["weight"], source["bias"])
    pair = [(X.mean(0), X.std(0) + 1e-3 * X.std()) for X in (Z, target)]
    (mean, std), (new_mean, new_std) = pair
    standard = measure_source(
        torch.from_numpy((Z - mean) / std), probe((Z - mean) / std, y, n_classes)
    )
    standard = LinearHead(standard["weight"], standard["bias"])
    return {
        "source only": plain,
        "centred": lambda X: plain(X - new_mean + mean),
        "standardised": lambda X: standard((X - new_mean) / new_std),
        "centroids": adapt_head(source, target)[0],
        "centroids, no test": adapt_head(source, target, min_gap=0)[0],
        "centroids, prior": adapt_head(source, target, min_gap=0, prior=20)[0],
    }


def scores(head, Z, y, target, weight):
    """Return what the choice may be made by."""
    P = softmax(head(target), axis=1)
    unit = 3 * head(target) / head(target).std()  # predictions of comparable scale
    Q = softmax(unit, axis=1)
    rows = Q / np.linalg.norm(Q, axis=1, keepdims=True)
    similarity = rows @ rows.T / 0.05
    np.fill_diagonal(similarity, -np.inf)
    return {
        "entropy": -_entropy(P).mean(),
        "information": _entropy(Q.mean(axis=0)) - _entropy(Q).mean(),
        "neighbourhood density": _entropy(softmax(similarity, axis=1)).mean(),
        "importance-weighted": np.average(head(Z).argmax(axis=1) == y, weights=weight),
    }


def _entropy(P):
    return -(P * np.log(P + 1e-12)).sum(axis=-1)


def importance(Z, target):
    """Estimate the ratio of densities at source samples by a domain classifier."""
    domain = np.repeat([0, 1], [len(Z), len(target)])
    model = LogisticRegression(C=0.01, max_iter=300)
    model.fit(np.concatenate([Z, target]), domain)
    return np.exp(model.decision_function(Z).clip(-5, 5))


def regrets(Z, y, target, Z_new, y_new):
    """Return by how much each choice is below the best head, in points."""
    candidates = heads(Z, y, target)
    weight = importance(Z, target)
    accuracy = pd.Series(
        {
            k: 100 * np.mean(h(Z_new).argmax(axis=1) == y_new)
            for k, h in candidates.items()
        }
    )
    found = pd.DataFrame(
        {k: scores(h, Z, y, target, weight) for k, h in candidates.items()}
    )
    chosen = {name: accuracy[row.idxmax()] for name, row in found.iterrows()}
    chosen |= {f"always {k}": v for k, v in accuracy.items()}
    return {
        k: accuracy.max() - v
        for k, v in {**chosen, "at random": accuracy.mean()}.items()
    }


def main():
    options = parser(__doc__, seeds=2, samples=150, image_size=32)
    arguments, rows = options.parse_args(), []
    for development in (True, False):
        for name, shift in shifts(development, arguments.folder).items():
            is_pacs = name.startswith(("photo to", "cartoon to"))
            scale = PACS_SCALE if is_pacs else SCALES.get(name, 1)
            size = round(arguments.image_size * scale)
            for seed in range(arguments.seeds):
                X, y, X_target, _, X_new, y_new = shift(
                    seed + 100 * development, arguments.samples
                )
                extractor = PretrainedFeatureExtractor(image_size=size).fit(X[:2])
                parts = (extractor.transform(part) for part in (X, X_target, X_new))
                Z, target, Z_new = (part.astype(np.float64) for part in parts)
                classes, codes = np.unique(y, return_inverse=True)
                codes_new = np.searchsorted(classes, y_new)
                rows.append(regrets(Z, codes, target, Z_new, codes_new))
                kind = "development" if development else "reported"
                rows[-1] |= {"shift": name, "kind": kind}
                print(name, seed, flush=True)
    table = pd.DataFrame(rows)
    print(
        table.groupby("shift", sort=False)
        .mean(numeric_only=True)
        .T.round(1)
        .to_string()
    )
    print(table.groupby("kind").mean(numeric_only=True).T.round(1).to_string())


if __name__ == "__main__":
    main()
