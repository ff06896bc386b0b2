"""Compare linear classifiers of features with very few samples per class.

Features of the default backbone are computed once per data set. For several seeds,
the same number of samples per class is drawn for training, and the others are for the
test. The columns are the mean accuracy in percent of:

- `probe`, the package's logistic regression, whose C is found by cross-validation;
- `evidence`, the same with the C of the highest marginal likelihood, by Laplace's
  approximation with one block per class [1]_;
- `best C`, the same with the C of the grid that is best on the test samples;
- `C=1`, scikit-learn's logistic regression behind a `StandardScaler`;
- `discriminant`, with Ledoit-Wolf shrinkage [2]_;
- `means`, by the largest cosine to the mean of a class, of centred features;
- `three stages`, the probe of the features of the last three stages side by side, each
  stage with a mean squared norm of one.

    python benchmarks/few_samples.py [--groceries FOLDER] [--pacs FOLDER] [--seeds 5]

The folders are those of `defaults.py`.

References
----------
.. [1] D. J. C. MacKay (1992). The Evidence Framework Applied to Classification
   Networks. https://doi.org/10.1162/neco.1992.4.5.720
.. [2] O. Ledoit and M. Wolf (2004). A well-conditioned estimator for large-dimensional
   covariance matrices. https://doi.org/10.1016/S0047-259X(03)00096-4
"""

import argparse

import numpy as np
import pandas as pd
import torch
from defaults import datasets
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedFeatureExtractor
from sktransfer.training import fit_probe

PER_CLASS = (3, 5, 10, 20)
CS = np.logspace(-3, 5, 9)  # relative to the mean squared norm, as the probe's
NAMES = ("digits 10", "fashion 10", "stamps 10", "groceries all 5", "cartoon 10")
NAMES = (*NAMES, "photo 10")
STAGES = ("blocks.5", "blocks.6", "last")


def probes(X, y, X_test):
    """Return the probabilities of logistic regression for each C, and the evidence."""
    found, evidence = [], []
    power = np.square(X - X.mean(axis=0)).sum(axis=1).mean()
    for C in CS / power:
        head, *_ = fit_probe(torch.from_numpy(X), y, y.max() + 1, C=C)
        W, b = (p.detach().double().numpy() for p in (head.weight, head.bias))
        evidence.append(log_evidence(X.astype(float), y, W, b, C))
        found.append((X_test @ W.T + b).argmax(axis=1))
    return found, evidence


def log_evidence(X, y, W, b, C):
    """Approximate the logarithm of the marginal likelihood of a fit."""
    log_p = log_softmax(X @ W.T + b, axis=1)
    result = log_p[np.arange(len(y)), y].sum() - np.square(W).sum() / (2 * C)
    gram = C * (X - X.mean(axis=0)) @ (X - X.mean(axis=0)).T
    for p in np.exp(log_p).T:
        root = np.sqrt(p * (1 - p))
        block = np.eye(len(X)) + root[:, None] * gram * root
        result -= np.linalg.slogdet(block)[1] / 2
    return result


def nearest_mean(X, y, X_test):
    """Return the class whose mean has the largest cosine."""
    centre = X.mean(axis=0)
    classes = range(y.max() + 1)
    means = np.stack([(X[y == c] - centre).mean(axis=0) for c in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return ((X_test - centre) @ means.T).argmax(axis=1)


def probe(X, y, X_test):
    """Return the labels that the probe predicts."""
    head, *_ = fit_probe(torch.from_numpy(X), y, y.max() + 1, C="auto")
    with torch.no_grad():
        return head(torch.from_numpy(X_test)).argmax(dim=1).numpy()


def compare(stages, y, rows, held):
    """Return the accuracies of all classifiers (dict).

    `stages` are the features of the last three stages, and `rows` and `held` the
    positions of the training and test samples.
    """
    X, X_test, y, y_test = stages[-1][rows], stages[-1][held], y[rows], y[held]
    by_C, evidence = probes(X, y, X_test)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    beside = np.concatenate([F / spread(F[rows]) for F in stages], axis=1)
    found = {
        "probe": probe(X, y, X_test),
        "evidence": by_C[np.argmax(evidence)],
        "best C": max(by_C, key=lambda found: (found == y_test).mean()),
        "C=1": scaled.fit(X, y).predict(X_test),
        "discriminant": discriminant.fit(X, y).predict(X_test),
        "means": nearest_mean(X, y, X_test),
        "three stages": probe(beside[rows], y, beside[held]),
    }
    return {name: 100 * (labels == y_test).mean() for name, labels in found.items()}


def spread(X):
    """Return the root of the mean squared norm of centred rows."""
    return np.sqrt(np.square(X - X.mean(axis=0)).sum(axis=1).mean())


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groceries")
    parser.add_argument("--pacs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for name, (make, size, _) in datasets(arguments).items():
        if name in NAMES:
            images, labels = map(np.concatenate, zip(*make(), strict=True))
            codes = np.unique(labels, return_inverse=True)[1]
            kept = some_of_each(codes, np.random.RandomState(0))
            stages = [
                PretrainedFeatureExtractor(stage=stage, image_size=size).fit_transform(
                    images[kept]
                )
                for stage in STAGES
            ]
            rows += rows_of(
                name.rsplit(" ", 1)[0], stages, codes[kept], arguments.seeds
            )
    table = pd.DataFrame(rows).groupby(["data", "per class"], sort=False).mean()
    print(table.round(1).reset_index().to_string(index=False))


def some_of_each(codes, rng):
    """Return the positions of at most 60 samples of each class."""
    classes = [np.flatnonzero(codes == c) for c in range(codes.max() + 1)]
    return np.concatenate([rng.permutation(places)[:60] for places in classes])


def rows_of(name, stages, y, n_seeds):
    """Yield the accuracies of each number of samples and seed (dicts)."""
    for n in PER_CLASS:
        for seed in range(n_seeds):
            rng = np.random.RandomState(seed)
            order = [
                rng.permutation(np.flatnonzero(y == c)) for c in range(y.max() + 1)
            ]
            rows = np.concatenate([places[:n] for places in order])
            held = np.concatenate([places[n:] for places in order])
            yield {"data": name, "per class": n, **compare(stages, y, rows, held)}


if __name__ == "__main__":
    main()
