"""
Label what is uncertain
=======================

Labels cost time. In active learning, a model that was fitted to a few labelled images
says which of the others it is least certain about, and these are labelled next. A
pretrained network suits this: its features are computed once for all images, so that
each round costs a linear model and nothing else.
"""

# %%
# Images without labels
# ---------------------
#
# We have 600 images of handwritten digits, of which 20 are labelled at first. Each
# round, 10 more are labelled: at random, or those for which the two most probable
# classes are the closest. Another 600 images measure the accuracy; four divisions of
# the images give an idea of the error.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import Pooling, PretrainedFeatureExtractor
from sktransfer.inspection import PassCounter

images, labels = load_digits().images / 16, load_digits().target
FIRST, STEP, ROUNDS = 20, 10, 11

# %%
# The rounds
# ----------
#
# The pipeline is fitted anew in each round, to images whose activations are stored.

model = make_pipeline(
    PretrainedFeatureExtractor(
        stage="blocks.3", pooling=Pooling("avg", grid=2), image_size=64
    ),
    StandardScaler(),
    LogisticRegression(max_iter=1000),
)


def at_random(model, unlabelled, rng):
    return rng.permutation(len(unlabelled))[:STEP]


def least_certain(model, unlabelled, rng):
    best = np.sort(model.predict_proba(images[unlabelled]), axis=1)
    return np.argsort(best[:, -1] - best[:, -2])[:STEP]


def accuracies(choose, seed):
    """Return the accuracy on other images after each round."""
    rng = np.random.default_rng(seed)
    pool, test = np.split(rng.permutation(len(labels))[:1200], 2)
    labelled, found = pool[:FIRST], []
    for _ in range(ROUNDS):
        model.fit(images[labelled], labels[labelled])
        found.append(model.score(images[test], labels[test]))
        unlabelled = np.setdiff1d(pool, labelled)
        chosen = unlabelled[choose(model, unlabelled, rng)]
        labelled = np.append(labelled, chosen)
    return found


ways = {"least certain": least_certain, "at random": at_random}
with PassCounter() as counter:
    scores = {
        name: np.array([accuracies(choose, seed) for seed in range(4)])
        for name, choose in ways.items()
    }
sizes = FIRST + STEP * np.arange(ROUNDS)
table = pd.DataFrame({name: s.mean(axis=0) for name, s in scores.items()}, index=sizes)
print(table.round(3))
print(counter)

# %%
# Fewer labels for the same accuracy
# ----------------------------------

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for marker, (name, of_way) in zip("os", scores.items(), strict=True):
    error = of_way.std(axis=0, ddof=1) / np.sqrt(len(of_way))
    ax.errorbar(sizes, of_way.mean(axis=0), error, marker=marker, capsize=2, label=name)
ax.set(xlabel="Labelled images", ylabel="Accuracy on other images")
ax.set_title("Mean of four divisions, and its standard error")
ax.legend(title="Labelled next")
figure.savefig("label_what_is_uncertain.png", dpi=100)
