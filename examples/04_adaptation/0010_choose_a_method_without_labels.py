"""
Choose an adaptation method without labels
==========================================

The labelled images are clean; those to predict for are dark and noisy, and have no
labels. This example measures whether the network sees the difference, adapts to it, and
asks whether a search could have chosen the method, without labels of the target.
"""

# %%
# Source and target
# -----------------
#
# Both are handwritten digits. Labels of the target are used only to compute the
# accuracies that are printed.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sklearn
from skada.metrics import PredictionEntropyScorer
from skada.model_selection import SourceTargetShuffleSplit
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.adaptation import (
    JMMD,
    MCC,
    DomainAdaptedClassifier,
    domain_gap,
)
from sktransfer.inspection import GapDisplay

sklearn.set_config(enable_metadata_routing=True)
digits = load_digits()
rng = np.random.RandomState(0)
order = rng.permutation(len(digits.target))[:600]
clean, y = digits.images[order] / 16, digits.target[order]
spoilt = np.clip(0.5 * clean + rng.normal(scale=0.07, size=clean.shape), 0, 1)

X, X_target, X_new = clean[:150], spoilt[150:300], spoilt[300:]
y_source, y_new = y[:150], y[300:]
both = np.concatenate([X, X_target])
domain = np.repeat([1, -1], 150)  # positive: source; negative: target
masked = np.concatenate([y_source, np.full(150, -1)])

figure, axes = plt.subplots(2, 8, figsize=(8, 2.2))
for images, row in zip((X, X_target), axes, strict=True):
    for image, ax in zip(images, row, strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
figure.suptitle("Source (top) and target (bottom)")
figure.savefig("source_and_target.png", dpi=100)

# %%
# Is there a gap?
# ---------------
#
# A linear classifier tries to separate the domains by the features of each stage. An
# A-distance of 0 means that it is as good as chance, and 2 that it makes no error. The
# domains differ at every stage; the maximum mean discrepancy measures how much. Frozen
# stages cannot adapt to the difference.

extractor = PretrainedFeatureExtractor(image_size=48)
gaps = domain_gap(extractor, X, X_target, random_state=0)
print(gaps.round(3))
display = GapDisplay(gaps).plot(metric="mmd2")
display.figure_.savefig("domain_gap.png", dpi=100)

# %%
# With and without adaptation
# ---------------------------

network = FineTunedClassifier(freeze=6, image_size=48, max_epochs=8, random_state=0)
model = DomainAdaptedClassifier(network, method="none", style=None)
model.fit(both, masked, sample_domain=domain)
source_only = model.score(X_new, y_new)
model.set_params(method="centroids").fit(both, masked, sample_domain=domain)
adapted = model.score(X_new, y_new)
print(f"source only {source_only:.3f}, adapted {adapted:.3f}")

# %%
# The default method first tests whether the domains differ, and changes nothing if they
# do not. It also estimates which shares the classes have in the target.

found = model.adaptation_
print(f"gap {found['gap']:.1f}, adapts: {found['adapts']}")
print("shares of the classes:", found["class_shares"].round(2))

# %%
# Choosing without labels
# -----------------------
#
# The scorer of skada measures how certain the predictions for the target are. The
# activations of the frozen stages are computed once for all candidates.

search = GridSearchCV(
    model,
    {"method": ["none", "centroids", "adabn", JMMD(), MCC()]},
    scoring=PredictionEntropyScorer(),
    cv=SourceTargetShuffleSplit(n_splits=1, test_size=0.3, random_state=0),
    refit=False,
)
search.fit(both, masked, sample_domain=domain)
methods = [settings["method"] for settings in search.cv_results_["params"]]
table = pd.DataFrame({"method": map(str, methods)})
table["certainty"] = search.cv_results_["mean_test_score"]

# %%
# Over many shifts, such a choice is no better than the default method, see the user
# guide. How far from the best candidate is it here? To find out, all candidates are
# fitted and scored on other images of the target, with their labels.

table["accuracy"] = [
    model.set_params(method=method)
    .fit(both, masked, sample_domain=domain)
    .score(X_new, y_new)
    for method in methods
]
chosen = table["accuracy"][search.best_index_]
print(table.round(3))
print(
    f"source only {source_only:.3f}, chosen {chosen:.3f}, best "
    f"{table['accuracy'].max():.3f}"
)

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.scatter(table["certainty"], table["accuracy"])
for row in table.itertuples():
    place = row.certainty, row.accuracy
    ax.annotate(row.method, place, (6, 4), textcoords="offset points", fontsize="small")
ax.axhline(source_only, linestyle="--", color="gray", label="source only")
ax.margins(x=0.2, y=0.15)
ax.set(xlabel="Certainty, a score without labels", ylabel="Accuracy on the target")
ax.set_title("Is the most certain method the best one?")
ax.legend(loc="upper left")
figure.savefig("choose_a_method.png", dpi=100)
