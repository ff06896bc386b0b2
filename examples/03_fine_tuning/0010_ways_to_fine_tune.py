"""
Ways to fine-tune
=================

How much of a network is trained, in which order and at which rates are parameters of
the estimator. This example compares some choices on handwritten digits, which do not
resemble the photographs that the network was trained on.
"""

# %%
# Ten images per class
# --------------------

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from sktransfer import FineTunedClassifier

digits = load_digits()
order = np.random.RandomState(0).permutation(len(digits.target))
X, y = digits.images[order] / 16, digits.target[order]
chosen = np.concatenate([np.flatnonzero(y == c)[:10] for c in range(10)])
kept = np.setdiff1d(np.arange(len(y)), chosen)[:200]
X_train, y_train, X_test, y_test = X[chosen], y[chosen], X[kept], y[kept]

ways = {
    "probe": {"freeze": "all"},
    "last stages": {"freeze": 2 / 3},
    "most stages": {"freeze": 1 / 3},
    "one stage after the other": {"freeze": 1 / 3, "training__unfreeze_every": 1},
    "lower stages slower": {"freeze": 1 / 3, "training__layer_decay": 0.7},
    "random head": {"freeze": 1 / 3, "training__head_init": "random"},
}

# %%
# Each strategy is fitted on the same 100 images. Activations that are stored are not
# computed again. With `X_val`, `history_` includes the loss on other images. The probe
# is solved, and has no epochs.

rows, histories = [], {}
warnings.filterwarnings("ignore", message="`max_epochs=|The training overfits")
for name, settings in ways.items():
    model = FineTunedClassifier(image_size=64, random_state=0)
    if name != "probe":
        model.set_params(max_epochs=10)
    model.set_params(**settings)
    began = time.perf_counter()
    model.fit(X_train, y_train, X_val=X_test, y_val=y_test)
    rows.append(
        {
            "way": name,
            "held out": model.score(X_test, y_test),
            "trained parameters": model.n_trainable_parameters_,
            "feature drift": model.feature_drift_,
            "seconds": time.perf_counter() - began,
        }
    )
    histories[name] = model.history_

table = pd.DataFrame(rows).set_index("way")
print(table.round(3))

# %%
# Overfitting
# -----------
#
# All strategies bring the loss on the 100 training images close to zero. They differ in
# the loss on other images. Each of them but the last one starts from the probe. Here,
# the random head ends best: its gradients are larger at first, and change the stages
# more, which pays for digits, as they are unlike the photographs of the pretraining.

plt.style.use("tableau-colorblind10")
figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 4), sharex=True, layout="constrained"
)
for (name, history), marker in zip(histories.items(), " osD^v", strict=True):
    for ax, loss in ((left, "train_loss"), (right, "valid_loss")):
        if len(history) == 1:  # the probe has no epochs
            ax.axhline(history[loss][0], linestyle="--", color="gray", label=name)
        else:
            ax.plot(
                history["epoch"], history[loss], marker=marker, markersize=4, label=name
            )
left.set(title="Training images", xlabel="Epoch", ylabel="Loss", yscale="log")
right.set(title="Held-out images", xlabel="Epoch")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
figure.savefig("ways_to_fine_tune.png", dpi=100)
