import warnings

import numpy as np
from torch import nn

from sktransfer import FineTunedClassifier
from sktransfer.utils import TransferWarning


def test_transfer_warning_can_be_silenced_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", TransferWarning)
        warnings.warn("one", TransferWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["other"]


def test_warning_names_the_line_outside_the_package():
    model = FineTunedClassifier(nn.Linear(3, 2), freeze="all")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(np.ones((6, 3)), [0, 1] * 3)
    assert [warning.filename for warning in caught] == [__file__]
