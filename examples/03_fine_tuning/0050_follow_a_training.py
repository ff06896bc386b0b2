"""
Follow a training
=================

A long training should say how it goes. ``verbose=1`` shows a bar for each step,
skorch's callbacks compute scores after each epoch, and ``history_`` keeps all of it.
Here, we watch a small training on digits with samples that it does not see.
"""

# %%
# The images
# ----------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EpochScoring

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor

X, y = load_digits().images / 16, load_digits().target
X_train, X_val, y_train, y_val = train_test_split(
    X, y, train_size=200, test_size=200, stratify=y, random_state=0
)

# %%
# The training
# ------------
#
# The first line that is printed says which stages are frozen, and why. The bars are
# those of the frozen stages, which each image passes once, of the head from which the
# training starts, and of the epochs, with the loss. `EpochScoring` is one of skorch's
# callbacks; any of them may be passed.

classifier = FineTunedClassifier(
    image_size=48,
    max_epochs=15,
    callbacks=[EpochScoring("balanced_accuracy", lower_is_better=False)],
    random_state=0,
    verbose=1,
)
classifier.fit(X_train, y_train, X_val=X_val, y_val=y_val)
history = classifier.history_
shown = ["epoch", "lr", "train_loss", "valid_loss", "valid_accuracy"]
print(
    history[[*shown, "balanced_accuracy"]].to_string(index=False, float_format="%.2g")
)

# %%
# The baselines
# -------------
#
# Logistic regression on the pixels, and on the features of the network, shows what
# the training is worth.

pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1))
extractor = PretrainedFeatureExtractor(image_size=48)
accuracy = {
    name: make_pipeline(features, LogisticRegression(max_iter=1000))
    .fit(X_train, y_train)
    .score(X_val, y_val)
    for name, features in {"raw pixels": pixels, "features": extractor}.items()
}
accuracy["fine-tuned"] = classifier.score(X_val, y_val)
print({name: f"{value:.1%}" for name, value in accuracy.items()})

# %%
# The course
# ----------

plt.style.use("tableau-colorblind10")
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for name, marker in {"train_loss": "o", "valid_loss": "s"}.items():
    left.plot(history["epoch"], history[name], marker=marker, label=name)
left.set(xlabel="Epoch", ylabel="Loss", yscale="log", title="Loss")
left.set_xticks(np.arange(0, 16, 5))
left.legend()
right.plot(history["epoch"], history["balanced_accuracy"], "o-", label="fine-tuned")
for name, style in {"raw pixels": ":", "features": "--"}.items():
    right.axhline(accuracy[name], color="black", linestyle=style, label=name)
right.set(xlabel="Epoch", ylabel="Balanced accuracy", xticks=np.arange(0, 16, 5))
right.set_title(f"On {len(y_val)} images that it does not see")
right.legend(fontsize="small")
figure.savefig("follow_a_training.png", dpi=100)
