"""Compare searches on texts with recipes that encode every text each time.

The first table is a grid search over `freeze`, in three folds, beside one by skorch and
transformers. Both sides have AdamW with the same groups, rates, schedule and clipping,
the same epochs, batch size, folds and seed, and random initial heads. The plain side
tokenises once, pads each batch to its longest text, and freezes by `requires_grad`.

The second table is a search over ten values of C in five folds, with an extractor in a
pipeline, beside the same search without a store. Seconds are those in which the process
was computing.

    python benchmarks/text_grid.py FOLDER [--data trec] [--n-texts 96] [--epochs 5]

FOLDER is that of `text.py`.
"""

import time
import warnings
from collections import Counter
from functools import partial

import numpy as np
import torch
import transformers
from common import parser, print_table
from grid_search_freezing import PlainNet
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder
from skorch.callbacks import GradientNormClipping, LRScheduler
from skorch.helper import SliceDataset
from text import WEIGHTS, read
from torch import nn

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    TrainingRecipe,
    config_context,
)
from sktransfer.activations import forward_passes, process_store
from sktransfer.training._schedule import warmup_cosine

DEPTHS = [4, 5, 6, 7]  # of seven: the embeddings, and six layers
LR, RATIO, DECAY, BATCH = 1e-3, 0.5, 0.01, 32  # as in `grid_search_freezing.py`
encoded = Counter()


class PlainEncoder(nn.Module):
    """Encoder whose first stages have no gradients, the average of tokens, a head."""

    def __init__(self, freeze, n_classes):
        super().__init__()
        body = transformers.AutoModel.from_pretrained(WEIGHTS, add_pooling_layer=False)
        body.embeddings.requires_grad_(False)
        body.encoder.layer[: freeze - 1].requires_grad_(False)
        self.body = body
        self.head = nn.Linear(body.config.hidden_size, n_classes)

    def forward(self, input_ids, attention_mask, token_type_ids):
        """Return the scores of the classes."""
        encoded["plain"] += len(input_ids)
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        hidden = self.body(**given, token_type_ids=token_type_ids)[0]
        mask = attention_mask[..., None]
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return self.head(nn.functional.normalize(mean))


class Tokens(torch.utils.data.Dataset):
    """Texts that are tokenised once, and padded by batch."""

    def __init__(self, texts, y):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(WEIGHTS)
        self.encodings = [self.tokenizer(text, max_length=256) for text in texts]
        self.y = y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.encodings[i], self.y[i]

    def collate(self, pairs):
        """Return a padded batch and its classes."""
        encodings, y = zip(*pairs, strict=True)
        padded = self.tokenizer.pad([*encodings], return_tensors="pt")
        return {**padded}, torch.tensor(y)


def search_plain(texts, y, depths, cv, epochs):
    """Search by skorch and transformers."""
    data = Tokens(texts, y)
    n_steps = epochs * -(-(len(y) - len(y) // cv.get_n_splits()) // BATCH)
    factor = partial(warmup_cosine, n_steps=n_steps)
    policy = torch.optim.lr_scheduler.LambdaLR
    schedule = LRScheduler(policy, lr_lambda=factor, step_every="batch")
    net = PlainNet(
        PlainEncoder,
        module__freeze=7,
        module__n_classes=len(set(y)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        max_epochs=epochs,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        iterator_train__collate_fn=data.collate,
        iterator_valid__collate_fn=data.collate,
        train_split=None,
        verbose=0,
        callbacks=[("clip", GradientNormClipping(1.0)), ("schedule", schedule)],
    )
    torch.manual_seed(0)
    search = GridSearchCV(net, {"module__freeze": depths}, cv=cv, refit=False)
    return search.fit(SliceDataset(data), y)


def search_ours(texts, y, depths, cv, epochs):
    """Search with the estimator."""
    recipe = TrainingRecipe(
        head_init="random", backbone_lr_ratio=RATIO, weight_decay=DECAY
    )
    model = FineTunedClassifier(
        "minilm",
        training=recipe,
        max_epochs=epochs,
        lr=LR,
        batch_size=BATCH,
        random_state=0,
    )
    return GridSearchCV(model, {"freeze": depths}, cv=cv, refit=False).fit(texts, y)


def n_from_input():
    """Return how many texts went through the first stage."""
    return sum(n for (_, start, _), n in forward_passes().items() if start == "input")


def compare_grids(texts, y, epochs):
    """Print the table of the grid searches, whose sides alternate depth by depth."""
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    sides = {"sktransfer": search_ours, "skorch": search_plain}
    seconds, scores = Counter(), {name: [] for name in sides}
    process_store().clear()
    forward_passes().clear()
    for depth in DEPTHS:
        for name, search in sides.items():
            began = time.process_time()
            scores[name].append(search(texts, y, [depth], cv, epochs).best_score_)
            seconds[name] += time.process_time() - began
    counts = {"sktransfer": n_from_input(), "skorch": encoded["plain"]}
    print_table(
        {
            "side": name,
            "seconds": seconds[name],
            **{f"depth {d}": s for d, s in zip(DEPTHS, scores[name], strict=True)},
            "texts through the first stage": counts[name],
        }
        for name in sides
    )
    ratio = seconds["skorch"] / seconds["sktransfer"]
    print(f"sktransfer is {ratio:.1f} times as fast\n")


def compare_pipelines(texts, y):
    """Print the table of the searches over C."""
    pipeline = make_pipeline(
        PretrainedFeatureExtractor("minilm"), LogisticRegression(max_iter=200)
    )
    grid = {"logisticregression__C": np.logspace(-2, 2, 10)}
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    rows = []
    for name, budget in {"sktransfer": {}, "uncached": {"memory_budget": 0}}.items():
        process_store().clear()
        forward_passes().clear()
        began = time.process_time()
        with config_context(**budget):
            search = GridSearchCV(pipeline, grid, cv=cv, refit=False).fit(texts, y)
        seconds = time.process_time() - began
        row = {"side": name, "seconds": seconds, "accuracy": search.best_score_}
        rows.append({**row, "times a text is encoded": n_from_input() / len(texts)})
    print_table(rows)
    ratio = rows[1]["seconds"] / rows[0]["seconds"]
    print(f"sktransfer is {ratio:.1f} times as fast")


def main():
    """Print both tables."""
    options = parser(__doc__, data="trec", n_texts=96, epochs=5).parse_args()
    warnings.simplefilter("ignore")
    X, y = read(options.folder, options.data)[0]
    rows = np.random.RandomState(0).permutation(len(y))[: options.n_texts]
    texts, y = X[rows].tolist(), LabelEncoder().fit_transform(y[rows])
    PretrainedFeatureExtractor("minilm").fit_transform(texts[:2])  # loads the weights
    compare_grids(texts, y, options.epochs)
    compare_pipelines(texts, y)


if __name__ == "__main__":
    main()
