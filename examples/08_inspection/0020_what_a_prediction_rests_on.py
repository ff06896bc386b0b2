"""
What a prediction rests on
==========================

A heat map shows which parts of an image a prediction rests on. That a map looks
plausible is no evidence: here we know the answer, since we planted it, and count how
often the map finds it. With random weights it should not.
"""

# %%
# Planted patterns
# ----------------
#
# The images are crops of two photographs. The class is a small pattern somewhere in
# them, and nothing else.

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.inspection import ExplanationDisplay, explain

SIDE, PATCH, MARGIN = 160, 48, 10  # px; the crop of the weights leaves the margin out
bands = np.arange(PATCH) // 8 % 2
checks = np.where((bands[:, None] ^ bands)[..., None], (200, 30, 30), (240, 220, 60))
stripes = np.where(np.tile(bands, (PATCH, 1)).T[..., None], (30, 60, 200), (240,) * 3)
patterns = {"checks": checks, "stripes": stripes}


def plant(n, seed):
    """Return images, the names of their patterns, and the corners of these."""
    rng = np.random.default_rng(seed)
    photographs = load_sample_images().images
    images, corners = [], rng.integers(MARGIN, SIDE - PATCH - MARGIN, (n, 2))
    labels = np.resize([*patterns], n)
    for label, (top, left) in zip(labels, corners, strict=True):
        y, x = rng.integers(0, 427 - SIDE), rng.integers(0, 640 - SIDE)
        image = photographs[rng.integers(2)][y : y + SIDE, x : x + SIDE].copy()
        image[top : top + PATCH, left : left + PATCH] = patterns[label]
        images.append(image)
    return np.stack(images), labels, corners


X, y, _ = plant(160, seed=0)
X_new, y_new, corners = plant(40, seed=1)

model = make_pipeline(
    PretrainedFeatureExtractor(stage="blocks.2", image_size=128),
    StandardScaler(),
    LogisticRegression(C=0.01, max_iter=2000),
)
model.fit(X, y)
print(f"accuracy on new images: {model.score(X_new, y_new):.1%}")

# %%
# Grad-CAM
# --------
#
# The map has the size of the image. The dashed box is what the network saw of it.

explanations = explain(model, X_new)
ExplanationDisplay(explanations[:6]).plot()

# %%
# The pointing game
# -----------------
#
# How often is the maximum of the map on the pattern? A cell of the map has 8 px.


def hits(explanations):
    shape = explanations[0].values.shape
    places = [np.unravel_index(e.values.argmax(), shape) for e in explanations]
    offsets = np.array(places) - corners
    return ((-4 <= offsets) & (offsets < PATCH + 4)).all(axis=1).mean()


seen = SIDE - 2 * MARGIN
print(f"Grad-CAM finds the pattern in {hits(explanations):.1%} of the images;")
print(f"a random point would in about {((PATCH + 8) / seen) ** 2:.1%}")

# %%
# Random weights
# --------------
#
# Adebayo et al. (2018) found methods whose maps remain when the weights are random:
# they show edges, not reasons. Here, the map has to change, and does. It is not quite
# at chance, since a pattern of strong contrast stands out in any network.

untrained = copy.deepcopy(model)
torch.manual_seed(0)
for layer in untrained[0].model_.backbone.module.modules():
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
random_maps = explain(untrained, X_new, target=y_new)
pairs = [
    (learned.values.ravel(), random.values.ravel())
    for learned, random in zip(explanations, random_maps, strict=True)
    if random.values.any()  # nothing may speak for the class
]
correlations = [spearmanr(*pair).statistic for pair in pairs]
print(f"random weights: {hits(random_maps):.1%}")
print(f"rank correlation of the maps: {np.mean(correlations):.2f}")

# %%
# Tokens of a text
# ----------------
#
# For texts, integrated gradients say how much each token contributes.

texts = ["a good film", "a bad film", "great acting", "terrible acting", "I loved it"]
texts += ["I hated it", "fine and clever", "dull and slow"]
reviews = FineTunedClassifier("minilm", freeze="all").fit(texts, ["good", "bad"] * 4)
new_texts = ["a clever film, and the acting is good", "terrible, I hated every minute"]
ExplanationDisplay.from_estimator(reviews, new_texts)

# %%
# Explanations by example
# -----------------------
#
# The nearest training samples in the features of the head are an explanation as well.
# Those of the training are in the store, so no image is computed again.

features = model[:-1]
index = NearestNeighbors(n_neighbors=4, metric="cosine").fit(features.transform(X))
_, nearest = index.kneighbors(features.transform(X_new[:2]))
figure, axes = plt.subplots(2, 5, figsize=(4.8, 2.2), layout="constrained")
for row, image, neighbours in zip(axes, X_new, nearest, strict=False):
    for ax, shown in zip(row, [image, *X[neighbours]], strict=True):
        ax.imshow(shown)
        ax.set_axis_off()
axes[0, 0].set_title("new", fontsize="small")
axes[0, 1].set_title("nearest", fontsize="small")
shares = (y[nearest] == y_new[:2, None]).mean()
print(f"neighbours of the same class: {shares:.0%}")
figure.savefig("nearest.png", dpi=100)
