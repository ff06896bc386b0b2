"""
Regression: how far is a picture turned?
========================================

:class:`~sktransfer.FineTunedRegressor` predicts numbers. Here, the number is the angle
by which a handwritten digit was turned. Features of a network for classification say
little about it, since a photograph shows the same object however it is held. After
fine-tuning, the network measures the angle.
"""

# %%
# The pictures
# ------------
#
# Each digit is turned by up to 60 degrees to the left or to the right, and moved by up
# to six pixels.

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import FineTunedRegressor, PretrainedFeatureExtractor


def draw(digit, angle, shift):
    """Return a picture of a digit, turned anticlockwise by an angle, and moved."""
    digit = Image.fromarray((255 / 16 * digit).astype(np.uint8))
    picture = Image.new("L", (64, 64))
    picture.paste(digit.resize((36, 36), Image.Resampling.BICUBIC), (14, 14))
    turned = picture.rotate(angle, Image.Resampling.BICUBIC, translate=tuple(shift))
    return np.asarray(turned)


rng = np.random.default_rng(0)
digits = rng.permutation(load_digits().images)[:500]
y = rng.uniform(-60, 60, len(digits))
shifts = rng.integers(-6, 7, (len(digits), 2))
X = np.stack([draw(*parts) for parts in zip(digits, y, shifts.tolist(), strict=True)])
X_train, y_train, X_test, y_test = X[:200], y[:200], X[200:], y[200:]

# %%
# The models
# ----------
#
# Ridge regression on raw pixels and on the features of a middle stage and of the last
# one are the baselines. By default, each epoch may take mirror images. The mirror image
# of a digit that is turned to the left is turned to the right, so we switch this off.


def ridge(features):
    return make_pipeline(features, RidgeCV(np.logspace(-3, 5, 17)))


pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255)
fine_tuned = FineTunedRegressor(
    max_epochs=15, augment=None, image_size=64, random_state=0
)
models = {
    "raw pixels, ridge": ridge(pixels),
    "middle features, ridge": ridge(
        PretrainedFeatureExtractor(stage="blocks.4", image_size=64)
    ),
    "last features, ridge": ridge(PretrainedFeatureExtractor(image_size=64)),
    "fine-tuned": fine_tuned,
}
rows, predictions = [], {}
for name, model in models.items():
    began = time.perf_counter()
    predictions[name] = model.fit(X_train, y_train).predict(X_test)
    rows.append(
        {
            "model": name,
            "R²": model.score(X_test, y_test),
            "mean error in degrees": mean_absolute_error(y_test, predictions[name]),
            "seconds": time.perf_counter() - began,
        }
    )
table = pd.DataFrame(rows).set_index("model")
print(table.round(2))

# %%
# The predicted angles
# --------------------
#
# We turn some of the test pictures back by the angle that was predicted for them.

figure = plt.figure(figsize=(8, 5.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(3, 2))
for ax, name in zip(
    above.subplots(1, 3, sharex=True, sharey=True),
    ("raw pixels, ridge", "middle features, ridge", "fine-tuned"),
    strict=True,
):
    ax.plot([-60, 60], [-60, 60], color="gray", linestyle="--")
    ax.scatter(y_test, predictions[name], s=8)
    ax.set(title=f"{name}\nR² = {table.loc[name, 'R²']:.2f}", xlabel="Angle in degrees")
above.axes[0].set(ylabel="Predicted angle in degrees", ylim=(-110, 110))
axes = below.subplots(2, 7)
for i in range(7):
    turned_back = Image.fromarray(X_test[i]).rotate(-predictions["fine-tuned"][i])
    axes[0, i].imshow(X_test[i], cmap="gray")
    axes[0, i].set_title(f"{y_test[i]:.0f}°, {predictions['fine-tuned'][i]:.0f}°")
    axes[1, i].imshow(turned_back, cmap="gray")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
below.suptitle("True and predicted angle, and turned back by the prediction")
figure.savefig("regression.png", dpi=100)
