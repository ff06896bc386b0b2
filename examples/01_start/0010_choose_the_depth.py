"""
Choose the depth by cross-validation
====================================

The last layer of a pretrained network is the usual source of features, and often the
wrong one: it is the most specialised in what the network was trained on. Here, the
network was trained on photographs, and we want to classify handwritten digits, with ten
labelled images per class. The depth at which features are taken is a hyperparameter, so
we let `GridSearchCV` choose it.

The same script runs on your own images, in a folder with one subfolder per class and at
least ten images in each::

    python 0010_choose_the_depth.py path/to/folder
"""

# %%
# The images
# ----------
#
# Every choice is made by cross-validation on the training images. The held-out images
# are used once, at the end.
#
# The network was trained on images of 224 × 224 pixels. The digits have 8 × 8 pixels,
# so we enlarge them to 64 × 64 only, which is much faster; in cross-validation, 112 ×
# 112 was no better. For images in a folder we use 128 × 128; `image_size=None` is the
# size that the network was trained on.

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from torchvision.datasets import ImageFolder

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.advice import TransferAdvisor
from sktransfer.backbones import describe_backbone

if len(sys.argv) > 1:
    folder = ImageFolder(sys.argv[1])
    X = np.array([path for path, _ in folder.samples])
    y = np.array(folder.classes)[folder.targets]
    n_train, n_held_out, image_size = 0.6, 0.4, 128
else:
    X, y = load_digits().images / 16, load_digits().target
    n_train, n_held_out, image_size = 100, 600, 64

X_train, X_held_out, y_train, y_held_out = train_test_split(
    X, y, train_size=n_train, test_size=n_held_out, stratify=y, random_state=0
)
cv = StratifiedKFold(3, shuffle=True, random_state=0)
print(f"{len(y_train)} training images, {len(y_held_out)} held-out images")

# %%
# Raw pixels
# ----------
#
# The value of pretraining only shows in comparison with a baseline without it: a linear
# classifier of the pixels, or of those of thumbnails if the images are files. A support
# vector machine is fast where there are many more features than images.


def pixels(X):
    if X.ndim == 3:
        return X.reshape(len(X), -1)
    thumbnails = [Image.open(path).convert("RGB").resize((16, 16)) for path in X]
    return np.array([np.ravel(thumbnail) for thumbnail in thumbnails])


def classify(features):
    return Pipeline(
        [
            ("features", features),
            ("scaler", StandardScaler()),
            ("classifier", SVC(kernel="linear")),
        ]
    )


def choose(name, estimator, grid):
    search = GridSearchCV(estimator, grid, cv=cv).fit(X_train, y_train)
    print(f"{name}: {search.best_score_:.1%} in cross-validation")
    return search


raw = choose(
    "Raw pixels",
    classify(FunctionTransformer(pixels)),
    {"classifier__C": [0.01, 0.1, 1, 10]},
)

# %%
# Features from every depth
# -------------------------
#
# `stage` is the stage of the network after which features are taken. The `grid` of
# `pooling` is how finely they are pooled: 1 averages over the whole image, and 3 keeps
# 3 × 3 cells, and with them the layout of the image. The usual features are those of
# the last stage with one cell.
#
# The same search with random weights shows what the architecture achieves by itself.

stages = list(describe_backbone("efficientnet_lite0")["name"])
pretrained = PretrainedFeatureExtractor("efficientnet_lite0", image_size=image_size)
untrained = PretrainedFeatureExtractor(
    "efficientnet_lite0", weights=None, image_size=image_size, random_state=0
)
grid = {"features__stage": stages, "features__pooling__grid": [1, 3]}

last = choose("Last stage", classify(pretrained), {"features__stage": [stages[-1]]})
features = choose("Features", classify(pretrained), grid)
random_features = choose("Features, random weights", classify(untrained), grid)

# %%
# Training the last stages
# ------------------------
#
# `freeze` is a depth as well: the network stays as it is up to that stage, and the
# stages after it are trained, together with a new head. We try every third stage, up to
# the last, after which only the head is trained.

fine_tuned = FineTunedClassifier(
    "efficientnet_lite0", image_size=image_size, random_state=0
)
tuned = choose("Fine-tuned", fine_tuned, {"freeze": stages[2::3]})

# %%
# What the advisor recommends
# ---------------------------
#
# A search trains a network for every depth and fold. `TransferAdvisor` fits probes to
# the features of the stages and measures one pass instead. Does the search agree?

began = time.perf_counter()
advisor = TransferAdvisor("efficientnet_lite0", image_size=image_size, random_state=0)
advisor.fit(X_train, y_train)
seconds = time.perf_counter() - began
results = pd.DataFrame(tuned.cv_results_)
searched = cv.get_n_splits() * (results["mean_fit_time"] + results["mean_score_time"])
depths = np.array([1 + stages.index(name) for name in results["param_freeze"]])
nearest = np.abs(depths - advisor.freeze_depth_).argmin()
lost = tuned.best_score_ - results["mean_test_score"][nearest]
agreed = "agreed" if lost < 0.015 else "did not agree"
print(
    f"The advisor, in {seconds:.0f} s: {advisor.strategy_} (freeze="
    f"{advisor.freeze_depth_}). The grid search, in {searched.sum():.0f} s, {agreed}: "
    f"freeze={tuned.best_params_['freeze']!r} is {lost:.1%} better."
)

# %%
# The comparison
# --------------
#
# On the digits, the features of the last stage are worse than raw pixels. Those of
# earlier stages of the same network are better by a wide margin, also than fine-tuning
# on a hundred images, which starts from the last stage. Cross-validation finds such a
# stage without the held-out images. On photographs it may well choose the last one.

searches = {
    "raw pixels": raw,
    "features, last stage": last,
    "features, random weights": random_features,
    "features": features,
    "fine-tuned": tuned,
}


def chosen(search):
    parameters = search.best_params_.items()
    return ", ".join(f"{name.split('__')[-1]}={value}" for name, value in parameters)


table = pd.DataFrame(
    {
        "method": list(searches),
        "chosen": [chosen(search) for search in searches.values()],
        "cross-validated": [search.best_score_ for search in searches.values()],
        "held out": [
            search.score(X_held_out, y_held_out) for search in searches.values()
        ],
    }
)
print()
print(table.to_string(index=False, float_format="{:.1%}".format))

# %%
# Accuracy against depth
# ----------------------
#
# These are the cross-validated accuracies that the choices are based on.

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
results = pd.DataFrame(features.cv_results_)
for cells, line in results.groupby("param_features__pooling__grid"):
    label = f"features, {cells} × {cells} cells"
    ax.plot(line["param_features__stage"], line["mean_test_score"], "o-", label=label)

results = pd.DataFrame(tuned.cv_results_)
looks = {"color": "#009E73", "linestyle": "--", "marker": "s"}
label = "fine-tuned after the stage"
ax.plot(results["param_freeze"], results["mean_test_score"], **looks, label=label)

ax.axhline(raw.best_score_, color="black", label="raw pixels")
label = "features, random weights (best)"
ax.axhline(random_features.best_score_, color="black", linestyle=":", label=label)

ax.set(xlabel="Stage of the network", ylabel="Cross-validated accuracy")
ax.set_title(f"{len(y_train)} training images: depth matters")
ax.tick_params(axis="x", labelsize="small")
ax.yaxis.set_major_formatter("{x:.0%}")
ax.legend()
figure.savefig("choose_the_depth.png", dpi=150)
print("\nThe figure is in choose_the_depth.png")
