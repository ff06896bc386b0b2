import pytest

from sktransfer import FineTunedClassifier
from sktransfer.fitting import choose_epochs, settle
from sktransfer.inputs import (
    ImagePreprocessing,
    TextPreprocessing,
    VectorPreprocessing,
    WordDropout,
)
from sktransfer.training import ResolvedRecipe
from tests._transformers import make_tokenizer

PLAIN = TextPreprocessing(make_tokenizer().to_str(), max_length=12)
IMAGES = ImagePreprocessing(resize=256)


def number_of_epochs(n_samples, preprocessing=IMAGES, **settings):
    params = FineTunedClassifier(**settings).get_params(deep=False)
    recipe = ResolvedRecipe.from_params(params)
    return settle(recipe, preprocessing, n_samples).max_epochs


@pytest.mark.parametrize(
    ("n_samples", "n_epochs"),
    [(1, 20), (2_000, 20), (2_001, 19), (5_500, 7), (13_000, 3), (1_000_000, 3)],
)
@pytest.mark.parametrize("preprocessing", [PLAIN, IMAGES])
def test_epochs_by_number_of_samples(n_samples, n_epochs, preprocessing):
    assert number_of_epochs(n_samples, preprocessing) == n_epochs
    assert number_of_epochs(n_samples, max_epochs=50) == 50
    assert number_of_epochs(n_samples, early_stopping=True) == 20
    assert number_of_epochs(n_samples, VectorPreprocessing(3)) == 20


def test_epochs_of_an_unknown_number_of_samples():
    assert choose_epochs("auto") == 20
    assert choose_epochs(7) == 7


def number_of_views(augment, preprocessing, n_views=None):
    settings = {"augment": augment, "augment__n_views": n_views}
    params = FineTunedClassifier().set_params(**settings).get_params(deep=False)
    recipe = settle(ResolvedRecipe.from_params(params), preprocessing, 1)
    assert recipe.views is augment
    return recipe.n_views


def test_modality_decides_unless_the_number_is_given():
    assert number_of_views("word_dropout", PLAIN) == 4
    assert number_of_views(WordDropout(0.3), PLAIN, 2) == 2
    assert number_of_views("crop", IMAGES) is None
    assert number_of_views("crop", IMAGES, 3) == 3


@pytest.mark.parametrize("preprocessing", [PLAIN, IMAGES, VectorPreprocessing(3)])
def test_nothing_is_asked_of_the_modality_by_default(preprocessing):
    assert number_of_views("auto", preprocessing) is None
    assert number_of_views(None, preprocessing) is None


def test_views_that_a_modality_does_not_have():
    for augment, preprocessing in (("crop", PLAIN), ("word_dropout", IMAGES)):
        with pytest.raises(ValueError, match=f"`augment` must be .* Got {augment!r}"):
            number_of_views(augment, preprocessing)
    with pytest.raises(ValueError, match="`augment` must be None for a backbone that"):
        number_of_views("crop", VectorPreprocessing(3))
