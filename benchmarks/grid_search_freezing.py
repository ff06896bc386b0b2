"""Compare a grid search over `freeze` with one by skorch and timm.

Both sides have AdamW with the same groups, rates, schedule and clipping, the same
epochs, batch size, folds and seed, and random initial heads. The plain side freezes by
`requires_grad` and decodes images in its Dataset. The sides alternate, depth by depth,
so that changes of the machine's speed affect both.
"""

import time
from collections import Counter
from functools import partial

import numpy as np
import torch
from common import Files, image_files, parser, print_table
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import LabelEncoder
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping, LRScheduler
from skorch.helper import SliceDataset
from torch import nn

from sktransfer import FineTunedClassifier, TrainingRecipe
from sktransfer.activations import forward_passes
from sktransfer.backbones import load_backbone
from sktransfer.training._schedule import parameter_groups, warmup_cosine

DEPTHS = [5, 6, 7, 8, 9]
LR, RATIO, DECAY, BATCH = 1e-3, 0.5, 0.01, 32
encoded = Counter()


class PlainNetwork(nn.Module):
    """Pretrained network whose first stages have no gradients."""

    def __init__(self, freeze, n_classes):
        super().__init__()
        backbone = load_backbone("efficientnet_lite0").fork("input")
        self.body = backbone.module
        self.body.classifier = nn.Identity()
        self.body.requires_grad_(True)
        backbone.section("input", backbone.boundary(freeze)).requires_grad_(False)
        self.head = nn.Linear(1280, n_classes)

    def forward(self, x):
        encoded["plain"] += len(x)
        return self.head(self.body(x))


class PlainNet(NeuralNetClassifier):
    def get_params_for_optimizer(self, prefix, named_parameters):
        groups = parameter_groups(
            named_parameters, lr=LR, backbone_lr_ratio=RATIO, weight_decay=DECAY
        )
        return (groups,), {}


def search_plain(paths, y, depths, cv, epochs, seed):
    data = Files(paths, y)
    n_train = len(y) - len(y) // cv.get_n_splits()
    n_steps = epochs * -(-n_train // BATCH)
    net = PlainNet(
        PlainNetwork,
        module__freeze=9,
        module__n_classes=len(set(y)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        max_epochs=epochs,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        device="cuda" if torch.cuda.is_available() else "cpu",
        train_split=None,
        verbose=0,
        callbacks=[
            ("clip", GradientNormClipping(1.0)),
            (
                "schedule",
                LRScheduler(
                    torch.optim.lr_scheduler.LambdaLR,
                    lr_lambda=partial(warmup_cosine, n_steps=n_steps),
                    step_every="batch",
                ),
            ),
        ],
    )
    torch.manual_seed(seed)
    search = GridSearchCV(net, {"module__freeze": depths}, cv=cv, refit=False)
    return search.fit(SliceDataset(data), y)


def search_ours(paths, y, depths, cv, epochs, seed):
    recipe = TrainingRecipe(
        head_init="random", backbone_lr_ratio=RATIO, weight_decay=DECAY
    )
    model = FineTunedClassifier(
        training=recipe,
        max_epochs=epochs,
        lr=LR,
        batch_size=BATCH,
        random_state=seed,
    )
    return GridSearchCV(model, {"freeze": depths}, cv=cv, refit=False).fit(paths, y)


def main():
    options = parser(__doc__, n_images=240, epochs=10, seed=0).parse_args()
    paths, labels = image_files(options.folder, options.n_images)
    y = LabelEncoder().fit_transform(labels)
    cv = StratifiedKFold(3, shuffle=True, random_state=options.seed)
    sides = {"sktransfer": search_ours, "skorch": search_plain}
    seconds, scores = Counter(), {name: {} for name in sides}
    for depth in DEPTHS:
        for name, search in sides.items():
            began = time.perf_counter()
            found = search(paths, y, [depth], cv, options.epochs, options.seed)
            seconds[name] += time.perf_counter() - began
            scores[name][depth] = found.best_score_
            print(f"depth {depth}, {name}: {seconds[name]:.0f} s so far", flush=True)
    encoded["sktransfer"] = sum(
        n for (_, start, _), n in forward_passes().items() if start == "input"
    )
    encoded["skorch"] = encoded.pop("plain")
    print_table(
        {
            "side": name,
            "seconds": seconds[name],
            "best accuracy": max(scores[name].values()),
            "mean accuracy": np.mean(list(scores[name].values())),
            **{f"depth {depth}": score for depth, score in scores[name].items()},
            "images through the first stage": encoded[name],
        }
        for name in sides
    )
    ratio = seconds["skorch"] / seconds["sktransfer"]
    print(f"sktransfer is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
