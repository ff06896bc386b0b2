import gc

import torch

from sktransfer.utils import process_key


class Thing:
    def __eq__(self, other):
        return True

    __hash__ = None


def test_key_is_that_of_one_living_object():
    first, other = Thing(), Thing()
    assert process_key(first) == process_key(first) != process_key(other)
    assert len(process_key(first)) == 32
    layer = torch.nn.ReLU()
    assert process_key(layer) == process_key(layer)


def test_key_does_not_come_again():
    found = set()
    for _ in range(20):
        found.add(process_key(Thing()))
        gc.collect()
    assert len(found) == 20


def test_key_of_what_cannot_be_referenced_is_new_each_time():
    items = [1]
    assert process_key(items) != process_key(items)
