"""
Classify texts with few labels
==============================

A network that was pretrained on sentences already knows that "return the cosine" and
"the sine of x" are about the same thing; a table of word counts has to learn it from
the labels. The fewer labels there are, the more that matters. We sort short texts by
topic, with 4 to 32 labelled texts per class, and see what each way is worth.

The texts are the first sentences of docstrings in Python's standard library, and the
label is what their module is about. Nothing is downloaded: the weights of the network
are installed with ``sktransfer[text]``.
"""

# %%
# The texts
# ---------

import importlib
import inspect
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor

TOPICS = {
    "numbers": "math cmath statistics fractions decimal random",
    "files": "os os.path pathlib shutil tempfile zipfile tarfile glob io",
    "internet": "http.client urllib.request email.message smtplib ftplib imaplib",
    "time": "datetime calendar time zoneinfo sched",
    "programs": "ast inspect dis tokenize traceback importlib.util symtable",
}


def first_sentences(module):
    """Return the first sentences of the docstrings in a module and in its classes."""
    home = importlib.import_module(module)
    things = [thing for name, thing in vars(home).items() if not name.startswith("_")]
    classes = [thing for thing in things if inspect.isclass(thing)]
    things += [member for cls in classes for member in vars(cls).values()]
    found = [inspect.getdoc(thing) or "" for thing in things if callable(thing)]
    sentences = [re.split(r"(?<=[.])\s|\n\n|:\n", text)[0] for text in found]
    return [" ".join(s.split()) for s in sentences if 25 < len(s) < 200]


rows = [
    (sentence, topic)
    for topic, modules in TOPICS.items()
    for module in modules.split()
    for sentence in first_sentences(module)
]
texts = pd.DataFrame(rows, columns=["text", "topic"]).drop_duplicates("text")
texts = texts.groupby("topic").sample(80, random_state=0)
print(texts.groupby("topic").agg(["size", "first"]))

X_pool, X_held_out, y_pool, y_held_out = train_test_split(
    texts["text"],
    texts["topic"],
    test_size=0.4,
    stratify=texts["topic"],
    random_state=0,
)

# %%
# Three ways
# ----------
#
# All of them get the same labelled texts. The network encodes each text once: the two
# ways that use it, and all numbers of labels, share the stored activations.

ways = {
    "word counts": make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    ),
    "features": make_pipeline(
        PretrainedFeatureExtractor("minilm"), LogisticRegression(C=10, max_iter=1000)
    ),
    "fine-tuned": FineTunedClassifier("minilm", freeze=-1, max_epochs=10),
}
rng = np.random.default_rng(0)
order = rng.permutation(len(X_pool))
results = []
for n_per_class in (4, 8, 16, 32):
    chosen = (
        pd.Series(order).groupby(y_pool.to_numpy()[order]).head(n_per_class).to_numpy()
    )
    X, y = X_pool.iloc[chosen], y_pool.iloc[chosen]
    for name, model in ways.items():
        score = model.fit(X, y).score(X_held_out, y_held_out)
        results.append((n_per_class, name, score))
table = pd.DataFrame(results, columns=["labels per class", "way", "accuracy"])
table = table.pivot(index="labels per class", columns="way", values="accuracy")[[*ways]]
print(table.round(3))

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
table.plot(ax=axes, marker="o", ylabel="accuracy on held-out texts")
axes.set_xscale("log", base=2)
axes.set_xticks(table.index, table.index)
figure.savefig("classify_texts.png")

# %%
# Similar texts
# -------------
#
# The features are also the coordinates of a search by meaning: the nearest texts need
# not share a word with what is asked.

extractor = PretrainedFeatureExtractor("minilm").fit(texts["text"])
index = NearestNeighbors(metric="cosine").fit(extractor.transform(texts["text"]))
question = ["How do I find out how big something on the disk is?"]
_, (nearest,) = index.kneighbors(extractor.transform(question), n_neighbors=3)
for text in texts["text"].iloc[nearest]:
    print("-", text)
