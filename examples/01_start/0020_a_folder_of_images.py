"""
A folder of images
==================

Images are most often files in a folder with one subfolder per class. Here they are
tiles of seven photographs that scikit-image ships: walls, meadows, stones, tissue, the
moon, stars and an eye, without their colours. Put your own folder in the place of ours.
"""

# %%
# The folder
# ----------
#
# Training tiles come from the left half of each photograph, and test tiles from its
# right half, so that no tile is next to one that was trained on.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FineTunedClassifier
from sktransfer.inputs import image_folder

NAMES = {
    "brick": data.brick,
    "grass": data.grass,
    "gravel": data.gravel,
    "tissue": data.immunohistochemistry,
    "moon": data.moon,
    "stars": data.hubble_deep_field,
    "eye": data.retina,
}
TILE = 64  # px

folder = Path(tempfile.mkdtemp())
for name, load in NAMES.items():
    image = Image.fromarray(load()).convert("L").resize((512, 512))
    for part in ("train", "test"):
        (folder / part / name).mkdir(parents=True)
    for i in range(64):
        row, column = divmod(i, 8)
        part = "train" if column < 4 else "test"
        left, top = column * TILE, row * TILE
        tile = image.crop((left, top, left + TILE, top + TILE))
        tile.save(folder / part / name / f"{i}.png")

# %%
# Ten lines
# ---------
#
# `image_folder` lists paths and labels. The paths are `X`: files are decoded when they
# are needed, resized and normalised as the network expects. Three training tiles per
# class have to suffice.

X, y = image_folder(folder / "train")
few = np.concatenate([np.flatnonzero(y == name)[:3] for name in NAMES])
X, y = X[few], y[few]
X_test, y_test = image_folder(folder / "test")

model = FineTunedClassifier(image_size=TILE, random_state=0).fit(X, y)
accuracy = model.score(X_test, y_test)
print(f"{len(y)} training tiles, {len(y_test)} test tiles: {accuracy:.1%}")
print(f"Trained above {model.boundary_!r}: {model.freeze_reason_}.")

# %%
# Is that good?
# -------------
#
# A number alone says little. Without a network, logistic regression on the pixels knows
# how bright a tile is, and not much about its texture.


def pixels(paths):
    return np.stack([np.ravel(Image.open(path).resize((16, 16))) for path in paths])


raw = make_pipeline(
    FunctionTransformer(pixels), StandardScaler(), LogisticRegression(max_iter=1000)
)
raw_accuracy = raw.fit(X, y).score(X_test, y_test)
print(f"Raw pixels: {raw_accuracy:.1%}")

figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
ConfusionMatrixDisplay.from_estimator(
    model, X_test, y_test, ax=ax, colorbar=False, cmap="Blues", xticks_rotation=45
)
ax.set_title(f"{accuracy:.0%} correct; {raw_accuracy:.0%} from raw pixels")
figure.savefig("folder_of_images.png", dpi=100)

# %%
# `python -m sktransfer FOLDER` does such a comparison for a folder without any code.
