"""
Find similar and unusual images
===============================

Features of a pretrained network are coordinates: near means similar. So scikit-learn's
neighbours find similar images, and its novelty detectors find images unlike all that
they have seen, with no label and nothing trained.
"""

# %%
# Tiles of photographs
# --------------------
#
# The images are tiles of photographs that scikit-image ships, without their colours,
# each turned at random. What is known are tiles from the left halves of a wall, a
# meadow and gravel; new are tiles from their right halves, and from four photographs
# that were never seen.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from skimage import data
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from sktransfer import PretrainedFeatureExtractor

KNOWN = {"brick": data.brick, "grass": data.grass, "gravel": data.gravel}
UNSEEN = {
    "tissue": data.immunohistochemistry,
    "moon": data.moon,
    "stars": data.hubble_deep_field,
    "eye": data.retina,
}
rng = np.random.default_rng(0)


def tiles(load, columns):
    """Return tiles (n, 64, 64) of some columns of a photograph of 8 × 8 tiles."""
    image = np.array(Image.fromarray(load()).convert("L").resize((512, 512)))
    grid = image.reshape(8, 64, 8, 64).swapaxes(1, 2)[:, columns].reshape(-1, 64, 64)
    return np.stack([np.rot90(tile, rng.integers(4)) for tile in grid])


X = np.concatenate([tiles(load, range(4)) for load in KNOWN.values()])
y = np.repeat([*KNOWN], 32)
X_new = np.concatenate([tiles(load, range(4, 8)) for load in (KNOWN | UNSEEN).values()])
y_new = np.repeat([*KNOWN, *UNSEEN], 32)
is_unseen = np.isin(y_new, [*UNSEEN])

# %%
# Two kinds of coordinates
# ------------------------

coordinates = {
    "raw pixels": make_pipeline(
        FunctionTransformer(lambda X: X.reshape(len(X), -1)), StandardScaler()
    ),
    "features": make_pipeline(
        PretrainedFeatureExtractor(stage="blocks.4", image_size=64), Normalizer()
    ),
}
rows, nearest = {}, {}
for name, transformer in coordinates.items():
    known, new = transformer.fit_transform(X), transformer.transform(X_new)
    index = NearestNeighbors(n_neighbors=5).fit(known)
    nearest[name] = index.kneighbors(new[~is_unseen], return_distance=False)
    detector = LocalOutlierFactor(n_neighbors=10, novelty=True).fit(known)
    rows[name] = {
        "same photograph among 5 nearest": np.mean(
            y[nearest[name]] == y_new[~is_unseen, None]
        ),
        "ROC AUC of unseen photographs": roc_auc_score(
            is_unseen, -detector.score_samples(new)
        ),
    }
table = pd.DataFrame(rows).T
print(table.round(3).to_string())

# %%
# Similar tiles
# -------------
#
# On the left a new tile of each known photograph, and beside it the five nearest known
# tiles, by pixels and by features.

shown = [4, 36, 68]
figure, axes = plt.subplots(3, 11, figsize=(9, 2.9), layout="constrained")
for row, i in zip(axes, shown, strict=True):
    found = [X[j] for name in coordinates for j in nearest[name][i]]
    for ax, tile in zip(row, [X_new[i], *found], strict=True):
        ax.imshow(tile, cmap="gray")
        ax.set(xticks=[], yticks=[])
axes[0, 0].set_title("new")
axes[0, 3].set_title("nearest by pixels")
axes[0, 8].set_title("nearest by features")
figure.savefig("similar_and_unusual.png", dpi=100)
