"""
Several labels at a time
========================

A picture may have several labels, or none. With one column of zeros and ones per label
as y, :class:`~sktransfer.FineTunedClassifier` predicts one probability per label. If y
is a data frame, its columns name them. Here, we ask of a handwritten digit whether it
has a loop, whether it is even, and whether it is greater than four.
"""

# %%
# The labels
# ----------

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor

digits = load_digits()
X, digit = digits.images / 16, digits.target
y = pd.DataFrame(
    {"loop": np.isin(digit, [0, 6, 8, 9]), "even": digit % 2 == 0, "above 4": digit > 4}
).astype(int)
X_train, X_test, y_train, y_test, _, digit_test = train_test_split(
    X, y, digit, train_size=100, test_size=400, stratify=digit, random_state=0
)
print(y_train.groupby(list(y)).size().to_string())

# %%
# The models
# ----------
#
# The baselines fit one logistic regression per label, on raw pixels, on the features of
# a middle stage and on those of the last one. Fine-tuning trains one network for all
# labels. Digits have no meaningful mirror images, so none are used for the training.


def regressions(*steps):
    regression = LogisticRegression(max_iter=1000)
    return make_pipeline(*steps, MultiOutputClassifier(regression))


def features(**parameters):
    return PretrainedFeatureExtractor(image_size=48, **parameters), StandardScaler()


pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1))
fine_tuned = FineTunedClassifier(
    max_epochs=10, augment=None, image_size=48, random_state=0
)
models = {
    "raw pixels, regressions": regressions(pixels),
    "middle features, regressions": regressions(*features(stage="blocks.4")),
    "last features, regressions": regressions(*features()),
    "fine-tuned": fine_tuned,
}
rows = []
for name, model in models.items():
    began = time.perf_counter()
    predicted = model.fit(X_train, y_train).predict(X_test)
    rows.append(
        {
            "model": name,
            **dict(zip(y, (predicted == y_test).mean(), strict=True)),
            "all labels": accuracy_score(y_test, predicted),
            "mean F1": f1_score(y_test, predicted, average="macro"),
            "seconds": time.perf_counter() - began,
        }
    )
table = pd.DataFrame(rows).set_index("model")
print(table.round(3).to_string())

# %%
# Probabilities by label
# ----------------------
#
# ``classes_`` holds the names of the columns. The mean probabilities of the test images
# of each digit show which of them are hard: they are far from zero and one.

probabilities = pd.DataFrame(
    fine_tuned.predict_proba(X_test), columns=fine_tuned.classes_
)
by_digit = probabilities.groupby(digit_test).mean().T

plt.style.use("tableau-colorblind10")
figure = plt.figure(figsize=(8.4, 4.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1, 1))
ax = left.subplots()
table[["all labels", *y]].rename(
    index=lambda name: name.replace(", ", ",\n")
).plot.barh(ax=ax)
ax.invert_yaxis()
ax.set(xlim=(0.5, 1), xlabel="Accuracy", ylabel="", title="Right labels")
left.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
ax.get_legend().remove()
above, below = right.subplots(2, 1, height_ratios=(1, 3))
first = [np.pad(X_test[digit_test == c][0], 1, constant_values=1) for c in range(10)]
above.imshow(np.hstack(first), cmap="gray")
above.set(title="Mean probability by digit")
above.set_axis_off()
drawn = below.imshow(by_digit, vmin=0, vmax=1, aspect="auto")
below.set(yticks=range(3), yticklabels=by_digit.index, xticks=range(10), xlabel="Digit")
right.colorbar(drawn, ax=below, location="bottom", label="Probability of the label")
figure.savefig("several_labels.png", dpi=100)
