"""
Serve a model as an ONNX file
=============================

A server needs neither this package nor PyTorch: an ONNX file holds the fitted model,
with the resizing and normalisation of images and the names of the classes. This example
writes one, and a small server of Python's standard library answers with it.
"""

# %%
# The model
# ---------

import io
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import PretrainedFeatureExtractor, set_config
from sktransfer.model import to_onnx

set_config(precision="float32", activation_dtype="float32")  # as in ONNX
digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    (255 / 16 * digits.images).astype(np.uint8),
    digits.target,
    train_size=200,
    test_size=200,
    stratify=digits.target,
    random_state=0,
)


def regression(*steps):
    return make_pipeline(*steps, LogisticRegression(max_iter=1000))


pixels = FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255)
raw = regression(pixels).fit(X_train, y_train).score(X_test, y_test)
features = PretrainedFeatureExtractor(stage="blocks.4", image_size=48)
model = regression(features, StandardScaler()).fit(X_train, y_train)
print(f"Raw pixels: {raw:.1%}; features: {model.score(X_test, y_test):.1%}")

folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
path = to_onnx(model, Path(folder.name, "digits.onnx"), image_size=(8, 8))
print(f"{path.stat().st_size / 1e6:.1f} MB")

# %%
# The server
# ----------
#
# It imports NumPy, Pillow and onnxruntime. A request sends an image file, and gets the
# probabilities of the classes in JSON. The file fixes the size of the raw images, here
# 8 by 8 pixels, so other images are resized to it first.

SERVER = """
import io, json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
height, width = session.get_inputs()[0].shape[1:3]


def classify(data):
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((width, height))
    (rows,) = session.run(["probabilities"], {"images": np.asarray(image)[None]})
    return dict(zip(map(str, classes), rows[0].tolist(), strict=True))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps(classify(data)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


assert not {"torch", "sklearn", "sktransfer"} & set(sys.modules)
server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
script = Path(folder.name, "serve.py")
script.write_text(SERVER)

# %%
# :doc:`/auto_examples/09_deployment/0030_serve_with_fastapi` serves an estimator, where
# PyTorch and this package are installed; ``classify`` would do in its app as well.

# %%
# Requests
# --------
#
# The server runs in a process of its own, and tells the port on which it listens.


def ask(port, image):
    """Send an image as a PNG file, and return the probability of each class."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    request = urllib.request.Request(f"http://127.0.0.1:{port}", file.getvalue())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.load(response)


with subprocess.Popen(
    [sys.executable, script, path], stdout=subprocess.PIPE, text=True
) as server:
    try:
        port = int(server.stdout.readline())
        answers = [ask(port, image) for image in X_test]
    finally:
        server.terminate()
folder.cleanup()

served = np.array([list(answer.values()) for answer in answers])
difference = np.abs(served - model.predict_proba(X_test)).max()
accuracy = (served.argmax(axis=1) == y_test).mean()
print(f"Accuracy of the answers: {accuracy:.1%}")
print(f"Largest difference of probabilities: {difference:.1e}")

# %%
# Some answers
# ------------
#
# The last two are those of which the model is least sure.

figure, axes = plt.subplots(2, 5, figsize=(8.4, 3.4), layout="constrained")
axes[1, 0].set(xlabel="Class", ylabel="Probability")
unsure = np.argsort(served.max(axis=1))[:2]
for i, image, bars in zip([*range(3), *unsure], axes[0], axes[1], strict=True):
    image.imshow(X_test[i], cmap="gray")
    image.set_axis_off()
    image.set_title(f"True class: {y_test[i]}")
    bars.bar(range(10), served[i], color="tab:blue")
    bars.set(ylim=(0, 1), xticks=range(0, 10, 2))
    bars.tick_params(labelleft=bars is axes[1, 0])
figure.suptitle("What the server answers")
figure.savefig("served_answers.png", dpi=100)
