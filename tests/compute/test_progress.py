import pytest

from sktransfer.compute import sample_bar, step_bar


def test_bar_is_full_after_the_step(capsys):
    with step_bar("Solve it", 1):
        assert "Solve it:   0%" in capsys.readouterr().err
    assert "100%" in capsys.readouterr().err


def test_bar_is_not_full_after_an_error(capsys):
    with pytest.raises(RuntimeError), step_bar("Solve it", 2):
        raise RuntimeError
    assert "100%" not in capsys.readouterr().err


def test_nothing_is_shown_if_not_verbose(capsys):
    with step_bar("Solve it", 0):
        pass
    assert capsys.readouterr() == ("", "")


def test_bar_over_samples(capsys):
    with sample_bar("Read", 4, 1) as bar:
        bar.update(4)
    shown = capsys.readouterr().err
    assert "Read: 100%" in shown
    assert "4/4" in shown
    assert sample_bar("Read", 4, 0) is None
