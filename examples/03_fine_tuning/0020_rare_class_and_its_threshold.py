"""
A rare class, and the threshold for it
======================================

One image in ten shows the digit that we look for. A classifier that never finds it is
right in nine cases of ten, so accuracy says little here. `TunedThresholdClassifierCV`
chooses the probability above which an image counts as found; `FineTunedClassifier` is
tuned as any classifier of scikit-learn is.
"""

# %%
# The images
# ----------
#
# The test images are used once, at the end.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor

X, y = load_digits().images / 16, load_digits().target == 8
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=200, test_size=400, stratify=y, random_state=0
)
print(f"{y_train.sum()} of {len(y_train)} training images show an eight.")

# %%
# The classifiers
# ---------------
#
# Beside raw pixels and features with logistic regression, we fit the probe and tune its
# threshold for the balanced accuracy, in three folds of the training images, whose
# features are computed once. `class_weight="balanced"` is another way to find more of a
# rare class. Both find more of them. Without either, the probe of the last stage is no
# better than raw pixels, as digits are unlike the photographs of the pretraining.

pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1))
features = PretrainedFeatureExtractor(image_size=64)
probe = FineTunedClassifier(freeze="all", image_size=64, random_state=0)


def regression(steps):
    return make_pipeline(steps, StandardScaler(), LogisticRegression(max_iter=1000))


tuned = TunedThresholdClassifierCV(
    probe, scoring="balanced_accuracy", cv=3, store_cv_results=True
)
weighted = FineTunedClassifier(
    freeze="all", class_weight="balanced", image_size=64, random_state=0
)
models = {
    "raw pixels, regression": regression(pixels),
    "features, regression": regression(features),
    "probe": probe,
    "probe, balanced weights": weighted,
    "probe, tuned threshold": tuned,
}
rows = []
for name, model in models.items():
    predicted = model.fit(X_train, y_train).predict(X_test)
    rows.append(
        {
            "model": name,
            "accuracy": accuracy_score(y_test, predicted),
            "balanced": balanced_accuracy_score(y_test, predicted),
            "F1 of eight": f1_score(y_test, predicted),
        }
    )
table = pd.DataFrame(rows).set_index("model")
print(table.round(3))

# %%
# The threshold
# -------------
#
# The curve is that of cross-validation, over the probability of an eight.

curve = tuned.cv_results_
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.plot(curve["thresholds"], curve["scores"])
ax.axvline(0.5, linestyle=":", color="black", label="usual")
ax.axvline(tuned.best_threshold_, linestyle="--", color="gray", label="chosen")
ax.set(xlabel="Threshold", ylabel="Balanced accuracy")
ax.set_title("An eight from which probability on? (3 folds)")
ax.legend(loc="lower center")
figure.savefig("tuned_threshold.png", dpi=100)
