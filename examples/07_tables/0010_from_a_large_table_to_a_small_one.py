"""
From a large table to a small one
=================================

What do the diamonds in a shop cost? If only twenty prices are known, there is not much
to learn from. But there are tables with thousands of other diamonds. Their prices are
in another currency, come from another decade, and their columns differ in part; what
makes a diamond dear is the same. So we train a network on the large table, and
fine-tune it on the small one.

The large table has 10,000 of the 53,940 diamonds of ggplot2, whose prices are in US
dollars. The small one has 308 that a shop in Singapore advertised in the year 2000 (S.
Chu, 2001, *Pricing the C's of Diamond Stones*, Journal of Statistics Education 9).
``DATA.md``, beside this script, names the licenses.
"""

# %%
# Two tables
# ----------
#
# Weight, colour and clarity are in both tables. Cut, depth and table width are missing
# in the shop, which says who certified a stone instead. Prices are roughly a power of
# the weight, so we take the logarithm of both.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sktransfer import FineTunedRegressor, TrainingRecipe
from sktransfer.backbones import load_backbone

GRADES = {
    "color": [*"JIHGFED"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
}


def read(name):
    """Return the columns of a table as numbers, and the logarithms of the prices."""
    try:
        folder = Path(__file__).parent
    except NameError:  # in a notebook
        folder = Path()
    table = pd.read_csv(folder / name)
    price = np.log(table.pop("price"))
    table["carat"] = np.log(table["carat"])
    for column in table.columns.intersection(GRADES):
        table[column] = table[column].map(GRADES[column].index)
    return pd.get_dummies(table, dtype=float), price


X_source, y_source = read("diamonds.csv.gz")
X, y = read("diamonds_shop.csv")
print(len(X_source), "diamonds with", [*X_source])
print(len(X), "diamonds with", [*X])

# %%
# Train on the large table
# ------------------------
#
# A transformer of a few lines brings any table to the columns of the large one: columns
# that are missing are filled with the mean of the large table, and columns that it does
# not have are left out.


def pick_columns(table):
    return table.reindex(columns=X_source.columns)


shared = make_pipeline(
    FunctionTransformer(pick_columns), SimpleImputer(), StandardScaler()
).fit(X_source)


def make_network(n_features):
    return nn.Sequential(
        nn.Sequential(nn.Linear(n_features, 64), nn.ReLU()),
        nn.Sequential(nn.Linear(64, 64), nn.ReLU()),
        nn.Sequential(nn.Linear(64, 8), nn.Tanh()),
    )


def train(n_features, seed, **settings):
    """Return a regressor that trains a network with random weights."""
    return FineTunedRegressor(
        load_backbone(
            lambda: make_network(n_features), n_features=n_features, random_state=seed
        ),
        freeze="none",
        lr=0.005,
        training=TrainingRecipe(backbone_lr_ratio=1.0),
        random_state=seed,
        **settings,
    )


def pretrain(seed):
    source = train(X_source.shape[1], seed, max_epochs=10, batch_size=256)
    return source.fit(shared.transform(X_source), y_source)


# %%
# Fine-tune on the small table
# ----------------------------
#
# The features of the pretrained network and the columns of the small table stand side
# by side, so that the last layer sees what is new, too. ``freeze="all"`` trains this
# last layer only; ``freeze="none"`` then goes on to train the whole network.


class Joined(nn.Module):
    """A network on the first columns, whose features are joined by the others."""

    def __init__(self, network, n_first):
        super().__init__()
        self.network = network
        self.n_first = n_first

    def forward(self, rows):
        features = self.network(rows[:, : self.n_first])
        return torch.cat([features, rows[:, self.n_first :]], dim=1)


def fine_tune(source, freeze):
    n_first = X_source.shape[1]
    joined = Joined(source.backbone_.module, n_first)
    backbone = load_backbone(joined, n_features=n_first + X.shape[1])
    return make_pipeline(
        make_union(FrozenEstimator(shared), StandardScaler()),
        FineTunedRegressor(backbone, freeze=freeze, max_epochs=20, random_state=0),
    )


# %%
# Is it worth it?
# ---------------
#
# The prices of 10 to 80 stones are known, and those of all others are predicted. The
# pretrained network is compared with models that only know the small table, over six
# draws of the known stones and as many pretrained networks. As prices are logarithms,
# an error of 0.05 is about five per cent.

results = []
for seed in range(6):
    source = pretrain(seed)
    for n_known in (10, 20, 40, 80):
        known = X.sample(n_known, random_state=seed).index
        others = X.index.difference(known)
        ways = {
            "gradient boosting": HistGradientBoostingRegressor(min_samples_leaf=5),
            "network from scratch": make_pipeline(
                StandardScaler(), train(X.shape[1], seed, max_epochs=40)
            ),
            "ridge regression": make_pipeline(
                StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))
            ),
            "pretrained, frozen": fine_tune(source, "all"),
            "pretrained, fine-tuned": fine_tune(source, "none"),
        }
        for way, model in ways.items():
            predicted = model.fit(X.loc[known], y[known]).predict(X.loc[others])
            error = 100 * mean_absolute_error(y[others], predicted)
            results.append((n_known, way, error))

table = pd.DataFrame(results, columns=["known prices", "way", "error"])
table = table.groupby(["known prices", "way"], sort=False)["error"]
mean, error = table.mean().unstack(), table.sem().unstack()
print("Mean absolute error in per cent, and its standard error over six draws")
print((mean.map("{:.1f} ".format) + error.map("({:.1f})".format)).T.to_string())

# %%
# What the large table adds
# -------------------------
#
# A straight line in the logarithms is nearly right, so ridge regression needs few
# prices, and with ten or twenty of them nothing is better. What it cannot learn from
# any number of prices, how weight, colour and clarity act together, the network knows
# from the large table. The other flexible models have to find the line first, for which
# 80 prices hardly suffice.

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for way in mean:
    ax.errorbar(mean.index, mean[way], error[way], marker="o", capsize=3, label=way)
ax.set_xscale("log")
ax.set_yscale("log")
ax.set_xticks(mean.index, mean.index)
ax.set_yticks([5, 10, 20, 40], ["5%", "10%", "20%", "40%"])
ax.minorticks_off()
ax.set(xlabel="known prices", ylabel="mean absolute error of the others")
ax.legend()
figure.savefig("from_a_large_table.png", dpi=100)
