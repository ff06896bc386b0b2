"""
A network and a checkpoint of your own
======================================

A backbone may be any PyTorch module, with the weights of a checkpoint file. This
example trains a small network on the digits from 0 to 4, saves a checkpoint, and
fine-tunes the network for the digits from 5 to 9. The model is then pickled without the
frozen weights, and exported to PyTorch and to ONNX.
"""

# %%
# The checkpoint
# --------------
#
# Training loops like this one write most checkpoints. Nothing in it is of sktransfer.

import pickle
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn
from torch.nn import functional as F

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    config_context,
    set_config,
)
from sktransfer.backbones import (
    Backbone,
    BackboneProvider,
    load_backbone,
    register_provider,
)
from sktransfer.inputs import ImagePreprocessing


def block(n_in, n_out):
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1)
    return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2))


class DigitNet(nn.Module):
    """Three blocks and a classifier of five digits."""

    def __init__(self):
        super().__init__()
        self.low = block(3, 32)
        self.middle = block(32, 64)
        self.high = block(64, 128)
        self.fc = nn.Linear(128, 5)

    def forward(self, x):
        x = self.high(self.middle(self.low(x)))  # (n, 128, 2, 2)
        return self.fc(x.mean(dim=(2, 3)))


digits = load_digits()
X = (255 / 16 * digits.images).astype(np.uint8)
y = digits.target
preprocessing = ImagePreprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)

torch.manual_seed(0)
network = DigitNet()
inputs = torch.from_numpy(X[y < 5])[:, None].expand(-1, 3, -1, -1) / 127.5 - 1
inputs = F.interpolate(inputs, (16, 16), mode="bilinear")
labels = torch.from_numpy(y[y < 5])
optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
for _ in range(20):
    for batch in torch.randperm(len(labels)).split(32):
        optimizer.zero_grad()
        F.cross_entropy(network(inputs[batch]), labels[batch]).backward()
        optimizer.step()

folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
checkpoint = Path(folder.name, "digit_net.pt")
torch.save({"state_dict": network.state_dict(), "epoch": 20}, checkpoint)

# %%
# The backbone
# ------------
#
# ``load_backbone`` takes the module, and ``preprocessing`` says which inputs it was
# trained on. Its stages are found by tracing. ``weights`` is the path of the file.

backbone = load_backbone(DigitNet(), preprocessing=preprocessing, weights=checkpoint)
print(backbone.stage_names)

# %%
# Other digits, ten images each
# -----------------------------
#
# The features of this network do better than raw pixels, than the features of a larger
# network that was trained on photographs, and than the same network trained from random
# weights. Fine-tuning gains nothing more here. The mirror image of a digit is no digit,
# so none are used for the training.
#
# Exported models compute in 32 bits, and so does the estimator with this setting.

set_config(precision="float32", activation_dtype="float32")
X, y = X[y >= 5], y[y >= 5]
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=50, stratify=y, random_state=0
)


def regression(*steps):
    return make_pipeline(*steps, LogisticRegression(max_iter=1000))


pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255)
training = {"lr": 3e-3, "augment": None, "random_state": 0}
model = FineTunedClassifier(backbone, freeze=1, **training)
models = {
    "raw pixels, regression": regression(pixels),
    "photographs, regression": regression(
        PretrainedFeatureExtractor(image_size=48), StandardScaler()
    ),
    "features, regression": regression(
        PretrainedFeatureExtractor(backbone), StandardScaler()
    ),
    "random network, trained": FineTunedClassifier(
        load_backbone(DigitNet(), preprocessing=preprocessing),
        freeze="none",
        **training,
    ),
    "fine-tuned": model,
}
accuracy = pd.Series(
    {
        name: classifier.fit(X_train, y_train).score(X_test, y_test)
        for name, classifier in models.items()
    }
)
print(accuracy.round(3).to_string())

# %%
# A pickle without the frozen weights
# -----------------------------------
#
# A whole pickle holds the network. With ``slim_pickles``, the frozen stages are loaded
# from the checkpoint again, so the network needs a name, which a provider gives it. A
# package would register its provider by an entry point.


class Lab(BackboneProvider):
    def names(self):
        return ["digit_net"]

    def load(self, name, *, weights, image_size, make):
        return Backbone(make(DigitNet), preprocessing=preprocessing, name=name)


register_provider("lab", Lab())
named = FineTunedClassifier(
    "lab/digit_net", weights=checkpoint, freeze="all", random_state=0
).fit(X_train, y_train)
whole = pickle.dumps(named)
with config_context(slim_pickles=True):
    slim = pickle.dumps(named)
unpickled = pickle.loads(slim)
print(f"{len(whole) / 1e3:.0f} kB whole, {len(slim) / 1e3:.0f} kB slim")
same = np.array_equal(unpickled.predict_proba(X_test), named.predict_proba(X_test))
print("Equal probabilities:", same)

# %%
# PyTorch and ONNX
# ----------------
#
# Both take raw RGB images, and resize and normalise them as the estimator does.

images = np.repeat(X_test[..., None], 3, axis=-1)
path = model.to_onnx(Path(folder.name, "digits.onnx"), image_size=(8, 8))
with torch.inference_mode():
    from_torch = model.to_torch()(torch.from_numpy(images)).numpy()
session = onnxruntime.InferenceSession(path)
(from_onnx,) = session.run(["probabilities"], {"images": images})

expected = model.predict_proba(X_test)
results = {"to_torch": from_torch, "to_onnx": from_onnx}
difference = {name: np.abs(p - expected).max() for name, p in results.items()}
for name, largest in difference.items():
    print(f"Largest difference of probabilities, {name}: {largest:.1e}")

# %%
# Accuracy, and images that are wrong
# -----------------------------------

predicted = model.classes_[from_onnx.argmax(axis=1)]
wrong = np.flatnonzero(predicted != y_test)[:8]
figure = plt.figure(figsize=(9, 3), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(5, 4))
ax = left.subplots()
ax.bar_label(ax.barh(accuracy.index, accuracy), fmt="{:.2f}", label_type="center")
ax.invert_yaxis()
ax.set(xlabel="Accuracy", title="50 training images")
for ax in right.subplots(2, 4).flat:
    ax.set_axis_off()
for ax, i in zip(right.axes, wrong, strict=False):
    ax.imshow(X_test[i], cmap="gray")
    ax.set_title(f"{y_test[i]}, not {predicted[i]}")
figure.savefig("own_network.png", dpi=100)
folder.cleanup()
