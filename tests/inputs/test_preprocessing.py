"""What preprocessings of samples that are no images share."""

import re

import pytest
import torch

from sktransfer.inputs._preprocessing import WithoutImageSize


class Words(WithoutImageSize):
    noun = "words"


def test_there_is_no_image_size():
    words = Words()
    assert words.with_size(None) is words
    message = "`image_size` must be None for a backbone that takes words. Got 64; leave"
    with pytest.raises(ValueError, match=re.escape(message)):
        words.with_size(64)


def test_what_was_prepared_is_the_input():
    batch = {"ids": torch.ones(2, 3)}
    assert Words().to_input(batch) is batch
