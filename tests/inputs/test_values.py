"""The numbers among the items of X."""

import io

import numpy as np
import pytest
from PIL import Image

from sktransfer.inputs import UnreadableSampleError
from sktransfer.inputs._unreadable import Unreadable
from sktransfer.inputs._values import Values


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


DEEP = Image.fromarray(np.full((2, 3), 300, np.uint16))
GRAY = Image.new("L", (3, 2), 7)


def rows_of(values):
    return {row: int(block.max()) for row, block in values.blocks()}


def test_values_of_a_list_are_those_of_arrays_and_deep_images():
    items = [GRAY, DEEP, png(GRAY), png(DEEP), np.full((2, 2), 9, np.uint16)]
    values = Values(items)
    assert values.dtypes == {np.dtype(np.uint16)} and not values.is_lazy
    assert rows_of(values) == {1: 300, 3: 300, 4: 9}
    part = Values(items, np.array([0, 4]))
    assert rows_of(part) == {1: 9}
    assert Values(items, np.array([0, 2])).dtypes == set()


def test_values_of_an_array_come_in_blocks(monkeypatch):
    monkeypatch.setattr("sktransfer.inputs._values.BLOCK", 8)
    X = np.arange(20).reshape(5, 2, 2)
    assert rows_of(Values(X)) == {0: 7, 2: 15, 4: 19}
    assert rows_of(Values(X, np.array([4, 0, 1]))) == {0: 19, 2: 7}


def test_values_that_cannot_be_read():
    items = [DEEP, Unreadable("gone"), png(DEEP)[:44]]
    assert rows_of(Values(items, on_error="warn")) == {0: 300}
    with pytest.raises(UnreadableSampleError, match="Got sample 2, which is not"):
        rows_of(Values(items))


def test_dtypes_of_arrays_that_are_no_images():
    with pytest.raises(ValueError, match="Complex data not supported: got dtype compl"):
        Values([np.zeros((2, 2), complex)])
    with pytest.raises(TypeError, match="must be real numbers or bool. Got dtype date"):
        Values(np.zeros((2, 2, 2), "M8[s]"))
