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

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.inspection import LearningCurveDisplay

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

# %%
# Learning curves
# ---------------
#
# `LearningCurveDisplay` fits every way to the same labelled texts, and draws the
# accuracy on other texts. Word counts and the same network with random weights are its
# own baselines; we add fine-tuning of the last layer. The network encodes each text
# once: all numbers of labels, and both ways that use it, share the stored activations.

features = make_pipeline(
    PretrainedFeatureExtractor("minilm", random_state=0),
    LogisticRegression(C=10, max_iter=1000),
)
fine_tuned = FineTunedClassifier("minilm", freeze=-1, max_epochs=10, random_state=0)
display = LearningCurveDisplay.from_estimator(
    features,
    texts["text"],
    texts["topic"],
    name="features",
    baselines=["raw", "random weights", ("fine-tuned", fine_tuned)],
    train_sizes=[20, 40, 80, 160],
    cv=StratifiedShuffleSplit(2, test_size=0.4, random_state=0),
    random_state=0,
)
print(display.table.round(3))
display.ax_.set_title("Five topics, with 4 to 32 labelled texts each")
display.figure_.savefig("classify_texts.png")

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
