"""
What a grid search computes
===========================

A grid search over how much of a network to freeze fits many models on the same images.
Below the freeze boundary all of them need the same activations, so each image goes
through the frozen stages once. This example counts how often images are computed.
"""

# %%
# Five depths, three folds
# ------------------------

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import Augmentation, FineTunedClassifier, FineTunedClassifierCV
from sktransfer.inspection import PassCounter

digits = load_digits()
X, y = digits.images[:150] / 16, digits.target[:150]

settings = {"image_size": 64, "max_epochs": 5, "augment": None, "random_state": 0}
classifier = FineTunedClassifier(**settings)
grid = {"freeze": [5, 6, 7, 8, "all"]}

search = GridSearchCV(classifier, grid, cv=3)
with PassCounter() as counter:
    search.fit(X, y)
print(pd.DataFrame(search.cv_results_)[["param_freeze", "mean_test_score"]])

# %%
# These are sixteen fits of five epochs each, and fifteen scores. `PassCounter` shows
# what that took, compared to a search that computes whatever it needs: each image went
# once through each part of the frozen network.

print(counter)

computed = counter.computed.set_index("stop")["samples"]
found = counter.found.set_index("boundary")["samples"]
found = found.reindex(computed.index, fill_value=0)
without = computed + found[::-1].cumsum()[::-1]  # all stages before what was found
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
bars = pd.DataFrame({"without the store": without, "with the store": computed})
bars[::-1].plot.barh(ax=ax, color=["#E69F00", "#0072B2"], width=0.8)
ax.set(title="Five depths in three folds: what is computed", ylabel="Frozen part")
ax.set(xlabel=f"Images that went through it, of {len(X)} different ones")
ax.legend(*(part[::-1] for part in ax.get_legend_handles_labels()), loc="lower right")
figure.savefig("what_a_grid_search_computes.png", dpi=100)

# %%
# Fewer fits
# ----------
#
# What remains is the training of the stages above the boundary, which no store can
# save. `FineTunedClassifierCV` makes fewer of these fits: after each fold, only the
# best third of the depths remain. The scores are those of the grid search, or missing.

halving = FineTunedClassifierCV(classifier, **grid, cv=3).fit(X, y)
results = pd.DataFrame(halving.cv_results_)
print(results[["param_freeze", "n_folds", "mean_test_score"]])
print(
    f"{results['n_folds'].sum() + 1} fits instead of 16: the grid search chose freeze="
    f"{search.best_params_['freeze']}, and this one {halving.best_params_['freeze']}"
)

# %%
# What was kept, and why
# ----------------------
#
# Another classifier finds the activations in the memory of the process. With a folder
# as `memory`, classifiers in other processes would find them as well. `pass_report_`
# says how many activations were found and computed at each boundary. Where some were
# computed, it also says what that took, and whether and why they were kept.

deeper = FineTunedClassifier(freeze="blocks.5", **settings)
print(deeper.fit(X, y).pass_report_.to_string(index=False))

# %%
# New images have to be computed.

deeper.fit(digits.images[:200] / 16, digits.target[:200])
columns = ["boundary", "bytes_per_sample", "kept", "reason", "n_stored", "n_computed"]
print(deeper.pass_report_[columns].to_string(index=False))

# %%
# Augmentation
# ------------
#
# Each new view of an image has to go through the frozen stages: with `augment="crop"`
# in every epoch. The activations of fixed views are kept, and augmented activations
# need no further passes. (By default, mirror images are such fixed views.)

ways = {
    "fresh views": "crop",
    "fixed views": Augmentation("crop", n_views=2),
    "activations": Augmentation(None, activations=["shift", "crop", "drop"]),
}
views = {}
for name, augment in ways.items():
    classifier.set_params(freeze=7, augment=augment)
    with PassCounter() as counter:
        classifier.fit(X, y)
    first = counter.computed["start"] == "input"
    views[name] = int(counter.computed.loc[first, "samples"].sum())
print(pd.Series(views).rename_axis("images through the first stage").to_string())
