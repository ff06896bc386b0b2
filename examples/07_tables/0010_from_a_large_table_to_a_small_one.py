"""
From a large table to a small one
=================================

What do large diamonds cost? If only twenty prices are known, there is not much to learn
from. But there are thousands of prices of smaller diamonds, in a table whose columns
differ in part. What makes a diamond dear is much the same. So we train a network on the
large table, and fine-tune it on the small one.

The diamonds are those of ggplot2. ``DATA.md``, beside this script, names the license.
"""

# %%
# Two tables
# ----------
#
# The large table has the stones of less than 1.5 carat, and the small one 400 of those
# that are heavier. We make the tables differ in another way as well, as tables from two
# sources do. Weight, colour and clarity are in both. Of the shape of a stone, the large
# table has two measures, ``depth`` and ``table``, and the small one only has a grade,
# ``cut``. Prices are roughly a power of the weight, so we take the logarithm of both.

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


def read_diamonds():
    """Return the diamonds, with columns of numbers."""
    try:
        folder = Path(__file__).parent
    except NameError:  # in a notebook
        folder = Path()
    diamonds = pd.read_csv(folder / "diamonds.csv.gz")
    for column, grades in GRADES.items():
        diamonds[column] = diamonds[column].map(grades.index)
    return diamonds


def divide(table):
    """Return the columns but the price, and its logarithm."""
    table = table.assign(carat=np.log(table["carat"]))
    return table.drop(columns="price"), np.log(table["price"])


diamonds = read_diamonds()
is_small = diamonds["carat"] < 1.5
X_source, y_source = divide(diamonds[is_small].drop(columns="cut"))
heavy = diamonds[~is_small].sample(400, random_state=0)
X, y = divide(heavy.drop(columns=["depth", "table"]))
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
        FineTunedRegressor(backbone, freeze=freeze, random_state=0),
    )


# %%
# Is it worth it?
# ---------------
#
# The prices of 20 to 80 large stones are known, and those of all others are predicted.
# The pretrained network is compared with models that only know the small table, over
# six draws of the known stones and as many pretrained networks. As prices are
# logarithms, an error of 0.05 is about five per cent.

results = []
for seed in range(6):
    source = pretrain(seed)
    for n_known in (20, 40, 80):
        known = X.sample(n_known, random_state=seed).index
        others = X.index.difference(known)
        ways = {
            "gradient boosting": HistGradientBoostingRegressor(min_samples_leaf=5),
            "ridge regression": make_pipeline(
                StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))
            ),
            "network from scratch": make_pipeline(
                StandardScaler(), train(X.shape[1], seed, max_epochs=40)
            ),
            "pretrained, frozen": fine_tune(source, "all"),
            "pretrained, fine-tuned": fine_tune(source, "none"),
        }
        for way, model in ways.items():
            predicted = model.fit(X.loc[known], y[known]).predict(X.loc[others])
            error = 100 * mean_absolute_error(y[others], predicted)
            results.append((n_known, seed, way, error))

table = pd.DataFrame(results, columns=["known prices", "draw", "way", "error"])
table = table.pivot(index=["known prices", "draw"], columns="way", values="error")
table = table[[*ways]]


def summarise(errors):
    """Return the mean over the draws and, in brackets, its standard error."""
    by_size = errors.groupby("known prices")
    mean, error = by_size.mean().map("{:.1f}".format), by_size.sem()
    return (mean + error.map(" ({:.1f})".format)).T.to_string()


print("Mean absolute error in per cent, and its standard error over six draws")
print(summarise(table))
gain = -table.sub(table["network from scratch"], axis=0).filter(like="pretrained")
print("How much lower it is than that of the network from scratch")
print(summarise(gain))

# %%
# What the large table adds
# -------------------------
#
# Ridge regression draws a straight line in the logarithms, which needs few prices, and
# no number of them teaches it how weight, colour and clarity act together. The network
# knows that from the large table, and needs few prices as well. From scratch, the same
# network has to find the line first: it is behind by most where least is known.

mean = table.groupby("known prices").mean()
error = table.groupby("known prices").sem()
plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
for way, marker in zip(mean, "osD^v", strict=True):
    ax.errorbar(mean.index, mean[way], error[way], marker=marker, capsize=3, label=way)
ax.set_xscale("log")
ax.set_yscale("log")
ax.set_xticks(mean.index, mean.index)
ax.set_yticks([10, 12, 15, 20], ["10%", "12%", "15%", "20%"])
ax.minorticks_off()
ax.set(xlabel="Known prices", ylabel="Mean absolute error of the others")
ax.set_title("Prices of large diamonds")
ax.legend(fontsize="small")
figure.savefig("from_a_large_table.png", dpi=100)
