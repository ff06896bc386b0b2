"""Compare fine-tuning with fastai's `fine_tune` and with a plain skorch recipe.

All sides have the same backbone, weights, preprocessing, images, epochs, batch size and
seeds, and their own defaults otherwise. fastai has its head with concatenated pooling,
and an additional first epoch with a frozen body. With skorch, AdamW trains the whole
network and a linear head at a rate of 1e-3, without a schedule. The peers decode each
image once for all epochs, which is faster than most training scripts. After a short
first fit, the sides alternate, seed by seed, so that changes of the machine's speed
affect all. Nothing is chosen by the scores on held-out images.
"""

import time

import numpy as np
import torch
from common import (
    FASHION,
    decoded,
    fashion_images,
    image_files,
    parser,
    print_table,
)
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import LabelEncoder
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import TensorDataset

from sktransfer import FineTunedClassifier
from sktransfer.activations import process_store
from sktransfer.backbones import load_backbone

try:
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401  (gives Learner its `fine_tune`)
    from fastai.callback.core import Callback, CancelValidException
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.torch_core import apply_init, set_seed
    from fastai.vision.learner import TimmBody, create_head, default_split

    missing = None
except ImportError as error:
    Callback, missing = object, error

NAME = "efficientnet_lite0"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def fit_ours(images, y, backbone, options, seed, **settings):
    process_store().clear()
    model = FineTunedClassifier(
        NAME,
        image_size=backbone.preprocessing.size,
        max_epochs=options.epochs,
        batch_size=options.batch_size,
        random_state=seed,
        **settings,
    )
    return model.fit(images, y).predict


def fit_ours_whole(images, y, backbone, options, seed):
    return fit_ours(images, y, backbone, options, seed, freeze="none")


def fit_fastai(images, y, backbone, options, seed):
    set_seed(seed)
    data = TensorDataset(decoded(images, backbone.preprocessing), torch.from_numpy(y))
    dls = DataLoaders.from_dsets(
        data, data, bs=options.batch_size, num_workers=0, device=DEVICE
    )
    head = create_head(backbone.activation_shape("features")[0], y.max() + 1)
    apply_init(head, nn.init.kaiming_normal_)
    learner = Learner(
        dls,
        nn.Sequential(TimmBody(copy_of(backbone)), head),
        loss_func=nn.CrossEntropyLoss(),
        splitter=default_split,
        cbs=NoValidation(),
    )
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(options.epochs)
    return predictor(learner.model, backbone.preprocessing)


class NoValidation(Callback):
    """Skip the validation after each epoch, which the other sides do not have."""

    def before_validate(self):
        raise CancelValidException


def fit_skorch(images, y, backbone, options, seed):
    torch.manual_seed(seed)
    module = copy_of(backbone)
    module.reset_classifier(y.max() + 1)
    net = NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        max_epochs=options.epochs,
        batch_size=options.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        device=DEVICE,
        verbose=0,
    )
    net.fit(decoded(images, backbone.preprocessing), y)
    return predictor(net.module_, backbone.preprocessing)


def copy_of(backbone):
    """Return a trainable copy of the network without its classifier."""
    module = backbone.fork("input").module
    module.classifier = nn.Identity()
    return module.requires_grad_(True)


def predictor(module, preprocessing):
    """Return a function that predicts the codes of images with a module."""

    @torch.inference_mode()
    def predict(images):
        batches = decoded(images, preprocessing).split(64)
        scores = [module.eval()(x.to(DEVICE)).cpu() for x in batches]
        return torch.cat(scores).argmax(1).numpy()

    return predict


SIDES = {
    'sktransfer, freeze="none"': fit_ours_whole,
    "sktransfer, default": fit_ours,
    "fastai, fine_tune": fit_fastai,
    "skorch, plain": fit_skorch,
}


def fashion_splits(n_splits):
    """Draw 500 training images per seed, with the same 2,000 held-out images."""
    held = fashion_images(2_000, part="t10k")
    for seed in range(n_splits):
        yield (*fashion_images(500, seed=seed), *held)


def file_splits(folder, n_images, n_splits):
    """Draw half of the images per seed for training, and hold out the other half."""
    paths, labels = image_files(folder, n_images)
    y = LabelEncoder().fit_transform(labels)
    splits = StratifiedShuffleSplit(n_splits, test_size=0.5, random_state=0)
    for train, test in splits.split(paths, y):
        yield paths[train], y[train], paths[test], y[test]


def compare(splits, sides, image_size, options):
    """Fit all sides on all splits; return accuracies and seconds by side."""
    backbone = load_backbone(NAME, image_size=image_size)
    accuracy, seconds = {name: [] for name in sides}, {name: [] for name in sides}
    for seed, (images, y, held, y_held) in enumerate(splits):
        y = y.astype(np.int64)
        for name, fit in sides.items():
            if seed == 0:
                fit(images[:64], y[:64], backbone, options, seed)
            began = time.perf_counter()
            predict = fit(images, y, backbone, options, seed)
            seconds[name].append(time.perf_counter() - began)
            accuracy[name].append(np.mean(predict(held) == y_held))
            took, score = seconds[name][-1], accuracy[name][-1]
            print(f"seed {seed}, {name}: {took:.1f} s, {score:.4f}", flush=True)
    return accuracy, seconds


def differences(accuracy, seconds):
    """Yield the paired differences between sktransfer and each peer."""
    ours = [name for name in accuracy if name.startswith("sktransfer")]
    for name in ours:
        for peer in [peer for peer in accuracy if peer not in ours]:
            points = 100 * np.subtract(accuracy[name], accuracy[peer])
            yield {
                "side": name,
                "against": peer,
                "points": points.mean(),
                "standard error": points.std(ddof=1) / np.sqrt(len(points)),
                "times as fast": np.sum(seconds[peer]) / np.sum(seconds[name]),
            }


def main():
    options = parser(
        __doc__, n_images=240, epochs=5, seeds=3, batch_size=32
    ).parse_args()
    sides = dict(SIDES)
    if missing is not None:
        del sides["fastai, fine_tune"]
        print(f"without fastai, which cannot be imported: {missing}")
    data = {
        "files": (file_splits(options.folder, options.n_images, options.seeds), 128)
    }
    if FASHION.is_dir():
        data["fashion"] = (fashion_splits(options.seeds), 64)
    rows, pairs = [], []
    for images, (splits, size) in data.items():
        accuracy, seconds = compare(splits, sides, size, options)
        rows += [
            {
                "images": images,
                "side": name,
                "accuracy": np.mean(accuracy[name]),
                "std over seeds": np.std(accuracy[name], ddof=1),
                "seconds to fit": np.mean(seconds[name]),
            }
            for name in sides
        ]
        pairs += [{"images": images, **row} for row in differences(accuracy, seconds)]
    print_table(rows)
    print_table(pairs)


if __name__ == "__main__":
    main()
