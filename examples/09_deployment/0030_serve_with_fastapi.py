"""
Serve a model with FastAPI
==========================

A saved estimator answers requests for as long as its server runs: it is loaded once,
takes the content of an image file as it is sent, and says what it was trained on and
under which license. The app is written with
`FastAPI <https://fastapi.tiangolo.com>`__, and is asked without a port, as its tests
would ask it.

A server without PyTorch takes an ONNX file instead, see
:doc:`/auto_examples/09_deployment/0020_serve_an_onnx_file`.
"""

# %%
# The model
# ---------
#
# It tells apart photographs of surfaces that scikit-image ships. Training tiles are
# from the left half of each, test tiles from the right half.

import io
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import joblib
import matplotlib.pyplot as plt
import numpy as np
from fastapi import Body, FastAPI, HTTPException
from fastapi.testclient import TestClient
from PIL import Image
from skimage import data
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, config_context
from sktransfer.inputs import UnreadableSampleError

TILE = 48  # px
NAMES = ["brick", "grass", "gravel", "moon"]
tiles = {"train": [], "test": []}
for name in NAMES:
    image = Image.fromarray(getattr(data, name)()).convert("L").resize((384, 384))
    for i in range(64):
        row, column = divmod(i, 8)
        left, top = column * TILE, row * TILE
        tile = image.crop((left, top, left + TILE, top + TILE))
        tiles["train" if column < 4 else "test"].append((np.asarray(tile), name))
X_train, y_train = map(np.array, zip(*tiles["train"][::8], strict=True))
X_test, y_test = map(np.array, zip(*tiles["test"], strict=True))

model = FineTunedClassifier(freeze="all", image_size=64).fit(X_train, y_train)
raw = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
raw.fit(X_train.reshape(len(X_train), -1), y_train)
raw_accuracy = raw.score(X_test.reshape(len(X_test), -1), y_test)
print(f"{len(y_train)} training tiles, {len(y_test)} test tiles")
print(f"Raw pixels: {raw_accuracy:.1%}; network: {model.score(X_test, y_test):.1%}")

# %%
# With ``slim_pickles``, the file leaves out the frozen weights. They come with the
# package, and are loaded by their name where the file is loaded.

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "surfaces.joblib")
with config_context(slim_pickles=True):
    joblib.dump(model, path)
print(f"{path.stat().st_size / 1e3:.0f} kB")

# %%
# The app
# -------
#
# In a file ``serve.py``, ``uvicorn serve:app`` runs this. The model is loaded when the
# server starts, and asked once, since the first call sets up the network. An endpoint
# that is a plain function runs in a thread, so that others are answered meanwhile.


@asynccontextmanager
async def load(app):
    app.state.model = joblib.load(path)
    app.state.model.predict(np.zeros((1, 64, 64), dtype="uint8"))
    yield


app = FastAPI(title="Surfaces", lifespan=load)


@app.get("/about")
def about() -> dict:
    return app.state.model.model_card_.to_dict()


@app.post("/classify")
def classify(
    image: Annotated[bytes, Body(media_type="image/*")],
) -> dict[str, float]:
    try:
        (probabilities,) = app.state.model.predict_proba([image])
    except UnreadableSampleError as error:
        raise HTTPException(422, error.reason) from error
    classes = app.state.model.classes_.tolist()
    return dict(zip(classes, probabilities.tolist(), strict=True))


# %%
# Requests
# --------
#
# ``TestClient`` calls the app in this process. Images are sent as files of any format
# and size, here as PNG.


def as_file(tile):
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "PNG")
    return file.getvalue()


answers, seconds = [], []
with TestClient(app) as client:
    card = client.get("/about").json()
    for tile in X_test:
        began = time.perf_counter()
        response = client.post(
            "/classify", content=as_file(tile), headers={"Content-Type": "image/png"}
        )
        seconds.append(time.perf_counter() - began)
        answers.append(response.raise_for_status().json())
    refused = client.post(
        "/classify", content=b"GIF89a", headers={"Content-Type": "image/gif"}
    )
print({name: card[name] for name in ("name", "license", "training_data")})
print(f"Not an image: {refused.status_code}, {refused.json()['detail']}")
print(f"An answer takes {1000 * np.median(seconds):.0f} ms (median).")

served = np.array([list(answer.values()) for answer in answers])
difference = np.abs(served - model.predict_proba(X_test)).max()
accuracy = (np.array([*answers[0]])[served.argmax(axis=1)] == y_test).mean()
print(f"Accuracy of the answers: {accuracy:.1%}")
print(f"Largest difference from the model: {difference:.1e}")
folder.cleanup()

# %%
# Some answers
# ------------
#
# One tile of each surface, and the one that the model is least sure of.

figure, axes = plt.subplots(2, 5, figsize=(8.4, 3.6), layout="constrained")
rows = [*range(5, len(y_test), 32), served.max(axis=1).argmin()]
for i, image, bars in zip(rows, axes[0], axes[1], strict=True):
    image.imshow(X_test[i], cmap="gray")
    image.set_axis_off()
    image.set_title(f"True: {y_test[i]}")
    bars.bar(NAMES, [answers[i][name] for name in NAMES], color="tab:blue")
    bars.set(ylim=(0, 1))
    bars.tick_params(axis="x", rotation=45)
    bars.tick_params(labelleft=bars is axes[1, 0])
axes[1, 0].set_ylabel("Probability")
figure.savefig("served_with_fastapi.png", dpi=100)
