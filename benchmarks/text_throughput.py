"""Compare `transform` of texts of mixed length with `encode` of sentence-transformers.

Both sides have the same weights and one thread, and all texts are new to them. Seconds
are those in which the process was computing, the least of some repetitions.

    python benchmarks/text_throughput.py FOLDER [--sizes 100,1000] [--repeats 3]

FOLDER is that of `text.py`.
"""

import time

import numpy as np
import torch
from common import parser, print_table
from sentence_transformers import SentenceTransformer
from text import WEIGHTS, read

from sktransfer import PretrainedFeatureExtractor, config_context
from sktransfer.activations import process_store


def timed(function, texts, repeats):
    """Return the result for some texts, and the least CPU seconds."""
    seconds = []
    for _ in range(repeats):
        process_store().clear()
        began = time.process_time()
        found = function(texts)
        seconds.append(time.process_time() - began)
    return found, min(seconds)


def main():
    """Print the table."""
    options = parser(__doc__, sizes="100,1000", repeats=3).parse_args()
    torch.set_num_threads(1)
    texts = [
        *read(options.folder, "custrev")[0][0],
        *read(options.folder, "trec")[0][0],
    ]
    texts = np.random.RandomState(0).permutation(texts)
    library = SentenceTransformer(WEIGHTS, device="cpu")
    rows = []
    with config_context(activation_dtype="float32"):
        extractor = PretrainedFeatureExtractor("minilm").fit([*texts[-2:]])
        for n in map(int, options.sizes.split(",")):
            some = texts[:n].tolist()
            ours, seconds = timed(extractor.transform, some, options.repeats)
            theirs, of_library = timed(library.encode, some, options.repeats)
            rows.append(
                {
                    "texts": n,
                    "sktransfer, s": seconds,
                    "sentence-transformers, s": of_library,
                    "ratio": seconds / of_library,
                    "largest difference": np.abs(ours - theirs).max(),
                }
            )
    print_table(rows)


if __name__ == "__main__":
    main()
