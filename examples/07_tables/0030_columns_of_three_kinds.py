"""
A table of images, texts and numbers
====================================

A :class:`~sklearn.compose.ColumnTransformer` sends each column to the transformer that
suits it. Pretrained networks are such transformers, so a table may hold images and
texts beside its numbers, and be cross-validated as a whole. Each image and each text
goes through its network once, however many folds and models ask for it.

The rows are letters of eleven scripts: a picture of the letter, its Unicode name, of
which we take away the name of the script, and four numbers. The question is which
script it belongs to. An A looks the same in Latin, Greek and Cyrillic, but only in one
of them it is an alpha. The letters are those of the font DejaVu Sans, which is
installed with matplotlib.
"""

# %%
# The table
# ---------

import time
import unicodedata
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import forward_passes, process_store

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
SCRIPTS = (
    "LATIN GREEK CYRILLIC ARMENIAN GEORGIAN HEBREW ARABIC LAO TIFINAGH LISU CANADIAN"
).split()
font = ImageFont.truetype(FONTS / "DejaVuSans.ttf", 36)
covered = [set(FT2Font(path).get_charmap()) for path in FONTS.glob("DejaVu*.ttf")]


def draw(letter):
    """Return a picture of a letter."""
    picture = Image.new("L", (64, 64), "white")
    ImageDraw.Draw(picture).text((32, 44), letter, "black", font, anchor="ms")
    return picture


rows = []
for code in sorted(FT2Font(font.path).get_charmap()):
    letter = chr(code)
    script, _, name = unicodedata.name(letter, "").partition(" ")
    if script in SCRIPTS and unicodedata.category(letter).startswith("L"):
        name = name.removeprefix("SYLLABICS ").lower()
        left, top, right, bottom = font.getbbox(letter, anchor="ls")
        n_fonts = sum(code in codes for codes in covered)
        numbers = (right - left, -top, bottom, n_fonts)
        rows.append((script.title(), draw(letter), name, *numbers))
numbers = ["width", "ascent", "descent", "fonts"]
letters = pd.DataFrame(rows, columns=["script", "picture", "name", *numbers])
letters = letters.groupby("script").sample(30, random_state=0).reset_index(drop=True)
X, y = letters.drop(columns="script"), letters["script"]
print(letters.drop(columns="picture").groupby("script").first().to_string())

# %%
# One model of all columns
# ------------------------
#
# Each column has its own transformer. The features are joined, and a logistic
# regression classifies them. Looks are taken from a middle stage of the network for
# images, since the last ones are specialised in photographs. ``fonts`` is the number of
# related fonts that have the letter.

picture = PretrainedFeatureExtractor(
    "efficientnet_lite0", stage="blocks.4", image_size=64
)
name = PretrainedFeatureExtractor("minilm")
parts = {
    "numbers": ("passthrough", numbers),
    "picture": (picture, "picture"),
    "name": (name, "name"),
}


def classify(*chosen):
    """Return a pipeline that looks at some of the parts."""
    return make_pipeline(
        make_column_transformer(*(parts[part] for part in chosen)),
        StandardScaler(),
        LogisticRegression(C=0.1, max_iter=1000),
    )


cv = StratifiedKFold(10, shuffle=True, random_state=0)
process_store().clear()
forward_passes().clear()
scores, seconds = {}, {}
for chosen in (["numbers"], ["picture"], ["name"], ["picture", "name"], [*parts]):
    began = time.perf_counter()
    way = " + ".join(chosen)
    scores[way] = cross_val_score(classify(*chosen), X, y, cv=cv)
    seconds[way] = time.perf_counter() - began
table = pd.DataFrame(scores).agg(["mean", "sem"]).T.assign(seconds=seconds)
print(table.round(3))

# %%
# Each picture and each name is encoded once
# ------------------------------------------
#
# Ten folds fit and score five models, most of which ask for the features of all
# pictures or all names. The counter of forward passes says how many samples went
# through the first stage of each network: fewer than there are rows, as letters that
# look the same, such as the A of two scripts, are the same picture. The last two models
# find all features stored, and take a second or two for ten folds.

encoded = {}
for (_, start, stop), n_samples in forward_passes().items():
    if start == "input":
        encoded[stop] = encoded.get(stop, 0) + n_samples
print(f"{len(X)} rows; encoded samples by the stage up to which: {encoded}")

# %%
# What the name adds
# ------------------
#
# Some of the letters that are taken for those of another script by their looks, and for
# what they are when all columns are known.

by_looks = cross_val_predict(classify("picture"), X, y, cv=cv)
by_all = cross_val_predict(classify(*parts), X, y, cv=cv)
mended = np.flatnonzero((by_looks != y) & (by_all == y))
mended = np.random.default_rng(0).choice(mended, 15, replace=False)

figure = plt.figure(figsize=(8.4, 4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(4, 5))
ax = left.subplots()
columns = table.index.str.replace(" + ", " +\n")
ax.barh(columns, table["mean"], xerr=table["sem"], capsize=3, color="#5F9ED1")
ax.invert_yaxis()
ax.set(xlabel="Accuracy", title="By the columns that are used")
right.suptitle("By looks another script, with all columns right")
for ax, row in zip(right.subplots(3, 5).flat, sorted(mended), strict=True):
    ax.imshow(X["picture"][row], cmap="gray")
    ax.set_title(f"{y[row]},\nnot {by_looks[row]}", fontsize=8)
    ax.set_axis_off()
figure.savefig("columns_of_three_kinds.png", dpi=100)
