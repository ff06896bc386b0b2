from sktransfer.activations._price import Price, choose


def _price(boundary, seconds, nbytes, asked=False, keep=0.001):
    return Price(boundary, asked, nbytes, seconds, keep)


def test_what_is_faster_to_compute_is_not_kept():
    (decided,) = choose([_price("a", 0.0005, 10, asked=True)], 10, 10**6)
    assert not decided.kept
    assert decided.reason == "faster to compute than to keep"


def test_what_exceeds_the_budget_is_not_kept():
    (decided,) = choose([_price("a", 1.0, 1_000, asked=True)], 10, 9_999)
    assert not decided.kept
    assert decided.reason == "10,000 bytes exceed the budget of 9,999"


def test_what_was_asked_for_is_kept_first():
    decided = choose([_price("a", 1.0, 1_000, asked=True)], 10, 10_000)
    assert decided[0].kept


def test_others_fill_half_of_the_budget_by_time_saved_a_byte():
    measured = [
        _price("early", 0.1, 400),
        _price("middle", 0.5, 300),
        _price("late", 0.9, 200),
        _price("end", 1.0, 10, asked=True),
    ]
    decided = {p.boundary: p.kept for p in choose(measured, 1, 1_000)}
    assert decided == {"early": False, "middle": True, "late": True, "end": True}


def test_others_are_kept_where_that_costs_next_to_nothing():
    measured = [
        _price("dear", 0.006, 10),
        _price("cheap", 0.007, 10),
        _price("asked", 0.008, 10, asked=True),
    ]
    dear, cheap, asked = choose(measured, 1, 1_000)
    assert not dear.kept and cheap.kept and asked.kept
    assert dear.reason == "not asked for, and not cheap to keep"


def test_others_are_kept_where_they_save_time_beyond_those_before_them():
    measured = [
        _price("input", 0.010, 10),
        _price("next", 0.011, 10),
        _price("later", 0.018, 10),
    ]
    assert [p.kept for p in choose(measured, 1, 1_000)] == [True, False, True]
