"""
Recommend new items: embeddings that start warm
===============================================

A recommender learns a vector for each user and one for each item. For an item that has
just arrived it knows nothing but a few answers, the *cold start*. The vectors of the
users were learned elsewhere, though, and can be reused: they are the frozen first stage
of a network, and only the vectors of the new items are learned.

The users are the 101 people who served in the Senate of the United States in 2005 and
2006, the items are roll calls, and a rating is yea or nay. Their vectors are learned
from votes on amendments and on procedure. The new items are of another kind:
nominations, cloture, and the passage of bills.

The votes are published by the Senate and in the public domain; ``senate_109.csv`` has
the 484 roll calls in which each side got at least ten votes.
"""

# %%
# The votes
# ---------

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from sktransfer import FineTunedClassifier, TrainingRecipe
from sktransfer.backbones import StagedModule, load_backbone

try:
    folder = Path(__file__).parent
except NameError:  # in a notebook
    folder = Path()
votes = pd.read_csv(folder / "senate_109.csv", keep_default_na=False)
is_new = votes["question"].str.contains(
    "Nomination|Cloture|Passage|Conference|Resolution|Proceed"
)
ballots = votes.drop(columns=["roll call", "date", "question", "description"])
party = ballots.columns.str.extract(r"\((\w)")[0]
print(votes.loc[is_new, ["question", "description"]].head(4).to_string(index=False))


def as_pairs(ballots):
    """Return rows (senator, roll call) of numbers, and whether the vote was yea."""
    roll_calls, senators = np.nonzero(ballots != "")
    pairs = np.column_stack([senators, roll_calls])
    return pairs, (ballots.to_numpy()[roll_calls, senators] == "Y").astype(int)


X_source, y_source = as_pairs(ballots[~is_new])
X, y = as_pairs(ballots[is_new])
print(f"{len(y_source)} votes to learn from, on {sum(~is_new)} roll calls")
print(f"{len(y)} votes on {sum(is_new)} roll calls of another kind")

# %%
# A network in two stages
# -----------------------
#
# The first stage looks up the vector of the senator and passes the number of the roll
# call on. The second multiplies it by the vector of the roll call. Such a network takes
# vectors, here of two numbers, and is a backbone like any other: it is cut after
# ``"senators"``, and what lies below can be frozen.


class Senators(nn.Module):
    def __init__(self, n_senators, width=2):
        super().__init__()
        self.vectors = nn.Embedding(n_senators, width)
        nn.init.normal_(self.vectors.weight, std=0.3)

    def forward(self, pairs):  # (n, 2)
        return torch.cat([self.vectors(pairs[:, 0].long()), pairs[:, 1:]], dim=1)


class RollCalls(nn.Module):
    def __init__(self, n_roll_calls, width=2):
        super().__init__()
        self.vectors = nn.Embedding(n_roll_calls, width + 1)
        nn.init.normal_(self.vectors.weight, std=0.3)

    def forward(self, state):  # (n, width + 1)
        senator, roll_call = state[:, :-1], self.vectors(state[:, -1].long())
        product = (senator * roll_call[:, :-1]).sum(dim=1, keepdim=True)
        return product + roll_call[:, -1:]  # (n, 1)


def recommender(n_roll_calls, senators=None, seed=0, **settings):
    """Return a classifier of pairs, which may start from vectors of senators."""

    def make():
        first = Senators(len(party)) if senators is None else senators
        return StagedModule({"senators": first, "roll_calls": RollCalls(n_roll_calls)})

    return FineTunedClassifier(
        load_backbone(make, n_features=2, random_state=seed),
        lr=0.05,
        augment=None,
        training=TrainingRecipe(backbone_lr_ratio=1.0),
        random_state=seed,
        **settings,
    )


source = recommender(sum(~is_new), freeze="none", max_epochs=6, batch_size=512)
source.fit(X_source, y_source)
senators = source.backbone_.module.stages["senators"]
accuracy = source.score(X_source, y_source)
print(f"{accuracy:.1%} of these votes are as two numbers per senator say")

# %%
# Cold start
# ----------
#
# Of each new roll call, 3 to 20 votes are known, and the others are predicted. Learned
# from these votes alone, a network knows neither the senators nor the roll calls.
# Popularity is the share of yeas among the known votes. The party is what an expert
# would look at: popularity among the senators of the same party.


def popularity(known, group):
    """Return the share of yeas in groups, shrunk towards the one of the roll call."""
    table = pd.DataFrame({"y": y, "roll call": X[:, 1], "group": group})
    overall = table[known].groupby("roll call")["y"].mean().rename("overall")
    counts = table[known].groupby(["roll call", "group"])["y"].agg(["sum", "size"])
    table = table.join(overall, on="roll call")
    table = table.join(counts, on=["roll call", "group"]).fillna({"sum": 0, "size": 0})
    return (table["sum"] + table["overall"]) / (table["size"] + 1)


def learned(known, seed, **settings):
    settings = {"seed": seed, "max_epochs": 30, "batch_size": 128, **settings}
    model = recommender(sum(is_new), **settings).fit(X[known], y[known])
    return model.predict_proba(X)[:, 1]


results = []
for n_known in (3, 5, 10, 20):
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(y))
        known = np.zeros(len(y), dtype=bool)
        known[pd.Series(order).groupby(X[order, 1]).head(n_known)] = True
        ways = {
            "popularity": popularity(known, 0),
            "popularity in the party": popularity(known, party[X[:, 0]].to_numpy()),
            "from scratch": learned(known, seed, freeze="none"),
            "pretrained senators": learned(
                known, seed, freeze="senators", senators=senators
            ),
        }
        for way, scores in ways.items():
            auc = roc_auc_score(y[~known], scores[~known])
            results.append((n_known, way, auc))

table = pd.DataFrame(results, columns=["known votes", "way", "auc"])
table = table.groupby(["known votes", "way"], sort=False)["auc"].agg(["mean", "sem"])
mean, error = table["mean"].unstack(), table["sem"].unstack()
print("Area under the ROC curve, and its standard error over five draws")
print((mean.map("{:.3f} ".format) + error.map("({:.3f})".format)).T.to_string())

# %%
# What carries over
# -----------------
#
# Nobody told the network about parties. It had to find out who votes like whom, and
# that holds for roll calls of any kind. So five votes together with these vectors say
# as much about a roll call as ten together with the parties. From scratch, the network
# has to see about twenty votes on each roll call to find out the same again.

parties = {"R": "Republican", "D": "Democrat", "I": "independent"}
plt.style.use("tableau-colorblind10")
looks = {"R": ("#D55E00", "o"), "D": ("#0072B2", "s"), "I": ("black", "*")}
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.6), layout="constrained")
points = senators.vectors.weight.detach().numpy()
for letter, name in parties.items():
    colour, marker = looks[letter]
    of_party = points[party == letter].T
    left.scatter(*of_party, c=colour, marker=marker, s=25, alpha=0.6, label=name)
behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
for name in ("CHAFEE", "NELSON (D-NE)", "SESSIONS", "KENNEDY"):
    (place,) = np.flatnonzero(ballots.columns.str.startswith(name))
    left.annotate(
        name.split(" ")[0].title(),
        points[place],
        (0, -14),
        textcoords="offset points",
        ha="center",
        fontsize="small",
        bbox=behind,
    )
left.set(title="Vectors of the senators", xticks=[], yticks=[])
left.margins(0.2)
left.legend(fontsize="small")

for way, marker in zip(mean, "osD^", strict=True):
    at, height = mean.index, mean[way]
    right.errorbar(at, height, error[way], marker=marker, capsize=3, label=way)
right.set_xscale("log")
right.set_xticks(mean.index, mean.index)
right.minorticks_off()
right.set(
    title="Votes on new roll calls",
    xlabel="Known votes on each roll call",
    ylabel="Area under the ROC curve",
    ylim=(0.5, 1),
)
right.legend(loc="upper left", ncols=2, fontsize="small", columnspacing=1)
figure.savefig("cold_start.png", dpi=100)
