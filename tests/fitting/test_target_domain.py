import pytest

from sktransfer.fitting._target_domain import Adaptation
from sktransfer.model import ClassOutputs
from sktransfer.training import AdaptationMethod


class Joint(AdaptationMethod):
    name = "joint"


class Alone(AdaptationMethod):
    name = "alone"
    needs_source = False

    def after_training(self, context):
        return None


def adaptation(method, samples=None):
    return Adaptation(method, samples, None, ClassOutputs.learn([0, 1]))


def test_method_that_needs_the_target_is_refused_without_one():
    with pytest.raises(ValueError, match="`method='joint'` needs target samples in"):
        adaptation(Joint()).check()
    adaptation(Alone()).check()


def test_method_without_hook_and_without_objective():
    assert not adaptation(Joint()).has_hook and adaptation(Alone()).has_hook
    assert adaptation(Alone()).objective(None, None) == (None, [])


def test_card_names_method_and_number_of_samples():
    assert adaptation(Alone()).describe() == {"method": "alone", "target_samples": 0}
    assert adaptation(Alone()).digests == []
