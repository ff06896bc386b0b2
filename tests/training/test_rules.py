import pytest

from sktransfer.training import LEVELS, LITERATURE, MEASURED, choose_level


@pytest.mark.parametrize(
    ("n", "level"), [(2, 3), (99, 3), (100, 1), (9_999, 1), (10_000, 0)]
)
def test_by_size(n, level):
    assert choose_level(n) == (level, f"{n:,} samples")


@pytest.mark.parametrize(
    ("n", "level"), [(499, 3), (500, 2), (1_999, 2), (2_000, 1), (10_000, 0)]
)
def test_by_size_as_in_the_literature(n, level):
    assert choose_level(n, rules=LITERATURE)[0] == level


@pytest.mark.parametrize(
    ("n", "similarity", "level"),
    [
        (1_000, 0.1, 0),
        (200, 0.1, 1),
        (1_000, 0.5, 1),
        (1_000, 0.9, 2),
        (50, 0.1, 1),
        (50, 0.5, 1),
        (50, 0.65, 3),
        (50, 0.9, 3),
        (20_000, 0.1, 0),
    ],
)
def test_a_different_domain_freezes_less_and_a_similar_one_more(n, similarity, level):
    found, why = choose_level(n, similarity=similarity)
    assert found == level
    assert ("domain" in why) == ((n, similarity) != (1_000, 0.5))


@pytest.mark.parametrize(
    ("n", "probes", "level", "why"),
    [
        (1_000, (0.99, 0.99, 0.01), 3, "a probe of the last stage scores 0.990"),
        (1_000, (0.8, 0.9, 0.01), 0, "an earlier stage scores 0.100 more"),
        (200, (0.8, 0.9, 0.01), 1, "an earlier stage scores 0.100 more"),
        (20_000, (0.8, 0.9, 0.01), 0, "an earlier stage scores 0.100 more"),
        (1_000, (0.8, 0.81, 0.01), 1, "no stage is clearly better than the last"),
        (50, (0.6, 0.9, 0.05), 3, "50 samples of a similar domain: 0.80"),
    ],
)
def test_probes_go_before_the_domain(n, probes, level, why):
    found, said = choose_level(n, similarity=0.8, probes=probes)
    assert found == level
    assert said.endswith(why)


def test_probes_decide_for_few_samples_of_an_unknown_domain():
    assert choose_level(50, probes=(0.6, 0.9, 0.05))[0] == 1
    assert choose_level(50, probes=(0.6, 0.65, 0.05))[0] == 3


def test_few_samples_of_a_domain_that_is_not_similar_are_trained_on():
    level, why = choose_level(60, similarity=0.4, probes=(0.6, 0.65, 0.05))
    assert level == 1
    assert why == "60 samples, but the domain is no similar one: 0.40"


def test_levels_go_from_nothing_frozen_to_all():
    shares = [level.share for level in LEVELS]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1


def test_rules_of_the_literature_freeze_no_less_for_fewer_samples():
    levels = [
        choose_level(n, similarity=0.5, probes=(0.6, 0.6, 0.1), rules=LITERATURE)[0]
        for n in (100, 499, 500, 1_999, 2_000, 9_999, 10_000)
    ]
    assert levels == [3, 3, 2, 2, 1, 1, 0]


@pytest.mark.parametrize("rules", [LITERATURE, MEASURED])
@pytest.mark.parametrize("similarity", [0.1, 0.65, 0.9])
@pytest.mark.parametrize("n", [20, 150, 450, 1_000, 50_000])
def test_every_level_exists(rules, similarity, n):
    for probes in (None, (0.5, 0.9, 0.01), (0.5, 0.5, 0.1)):
        level, why = choose_level(n, similarity=similarity, probes=probes, rules=rules)
        assert 0 <= level < len(LEVELS) and why
