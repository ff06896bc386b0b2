"""
See what was computed
=====================

A search leaves a table, and a training a list of numbers. Displays show them: the depth
that a search chose, the epochs of a training, the features, and the errors. They follow
scikit-learn's conventions, so `ax_` and `figure_` are there to change and save.
"""

# %%
# Which depth is best
# -------------------
#
# We classify handwritten digits, with twelve labelled images per class, by the features
# of some stage of a network that was trained on photographs. `FreezeDepthDisplay` names
# the stages of a search and draws a line for each value of the other parameter. The
# ring is around the choice.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.inspection import (
    EmbeddingDisplay,
    ErrorGalleryDisplay,
    FreezeDepthDisplay,
    StageProbeDisplay,
    TrainingHistoryDisplay,
)

X, y = load_digits().images / 16, load_digits().target
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=120, test_size=300, stratify=y, random_state=0
)
pipeline = Pipeline(
    [
        ("features", PretrainedFeatureExtractor(image_size=48)),
        ("scaler", StandardScaler()),
        ("classifier", LogisticRegression(C=0.01, max_iter=300)),
    ]
)
grid = {
    "features__stage": ["stem", "blocks.1", "blocks.3", "blocks.5", "last"],
    "features__pooling__grid": [1, 2],
}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)
display = FreezeDepthDisplay.from_cv_results(search)
display.figure_.savefig("depths.png", dpi=100)
chosen = display.table.loc[display.best]
print(f"Chosen: {chosen['depth']}, {chosen['label']}; {chosen['score']:.1%}")

# %%
# Every stage, before a search
# ----------------------------
#
# `StageProbeDisplay` does the same for all stages without a search.

probes = StageProbeDisplay.from_estimator(
    PretrainedFeatureExtractor(image_size=48), X_train, y_train, cv=3
)
best = probes.stages[probes.means.argmax()]
print(f"Best stage: {best}, {probes.means.max():.1%}; chance is {probes.chance:.1%}")

# %%
# How a training goes
# -------------------
#
# Gradual unfreezing trains one more stage after every second epoch. The display names
# the last frozen stage of each phase.

model = FineTunedClassifier(freeze=6, image_size=48, max_epochs=6, random_state=0)
model.set_params(lr=1e-4, training__unfreeze_every=2)
model.fit(X_train, y_train, X_val=X_test[:100], y_val=y_test[:100])
history = TrainingHistoryDisplay.from_estimator(model)
print(f"Phases: {history.phases}")

# %%
# Where the errors are
# --------------------
#
# Among the features, most errors are between classes that touch. Crosses are errors.

best_pipeline = search.best_estimator_
points = EmbeddingDisplay.from_estimator(model, X_test, y_test, n_thumbnails=20)
points.ax_.set_title("Features of the fine-tuned network")

# %%
# The errors that the classifier is most confident about are worth a look: some of them
# are errors of the labels.

errors = ErrorGalleryDisplay.from_estimator(best_pipeline, X_test, y_test)
print(f"{errors.n_errors} errors in {errors.n_samples} images")
plt.show()
