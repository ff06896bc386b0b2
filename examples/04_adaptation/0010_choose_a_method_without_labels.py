"""
Choose a method of adaptation without labels
============================================

The images with labels are clean, those to predict are dark and noisy and have none.
This example asks whether that matters to the network, adapts to it, and lets a search
choose how, without a label of the target.
"""

# %%
# Source and target
# -----------------
#
# Both are handwritten digits. Labels of the target are used for nothing but the scores
# that are printed in the end.

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
    GapDisplay,
    domain_gap,
)

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
figure.suptitle("Source above, target below")

# %%
# Is there a gap?
# ---------------
#
# A linear classifier tries to separate the domains by the features of each stage: an
# A-distance of 0 is chance, 2 is without an error. It finds them different everywhere;
# the maximum mean discrepancy says how far apart they are. What is frozen stays
# as it is.

extractor = PretrainedFeatureExtractor(image_size=32)
gaps = domain_gap(extractor, X, X_target, random_state=0)
print(gaps.round(3))
display = GapDisplay(gaps).plot(metric="mmd2")
display.figure_.tight_layout()
display.figure_.savefig("domain_gap.png", dpi=100)

# %%
# Adapted against source only
# ---------------------------

network = FineTunedClassifier(freeze=4, image_size=32, max_epochs=5, random_state=0)
model = DomainAdaptedClassifier(network, method="none")
model.fit(both, masked, sample_domain=domain)
source_only = model.score(X_new, y_new)
model.set_params(method="mcc").fit(both, masked, sample_domain=domain)
print(f"source only {source_only:.3f}, adapted {model.score(X_new, y_new):.3f}")

# %%
# Choosing without labels
# -----------------------
#
# skada's scorer looks at how certain the predictions for the target are. The stages
# that are frozen are not computed again, for any candidate.

weights = [0.5, 2.0]
candidates = {
    "method": ["none", "adabn"]
    + [JMMD(weight=weight) for weight in weights]
    + [MCC(weight=weight) for weight in weights]
}
search = GridSearchCV(
    model,
    candidates,
    scoring=PredictionEntropyScorer(),
    cv=SourceTargetShuffleSplit(n_splits=1, test_size=0.3, random_state=0),
)
search.fit(both, masked, sample_domain=domain)
methods = [settings["method"] for settings in search.cv_results_["params"]]
table = pd.DataFrame({"method": map(str, methods)})
table["certainty"] = search.cv_results_["mean_test_score"]

# %%
# How far from the best does it land? To know that, all candidates are fitted here, and
# scored on other images of the target, with their labels.

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

figure, ax = plt.subplots(figsize=(5, 3.5))
for method, rows in table.groupby("method", sort=False):
    ax.scatter(rows["certainty"], rows["accuracy"], label=method)
ax.axhline(source_only, linestyle="--", color="gray", label="source only")
ax.set(xlabel="What the scorer sees", ylabel="Accuracy on the target")
ax.legend(fontsize="small")
figure.tight_layout()
figure.savefig("choose_a_method.png", dpi=100)
