import re
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def _photos(tmp_path, monkeypatch):
    """Make the folder that the README speaks of, of two digits."""
    digits = load_digits(n_class=2)
    for i in range(8):
        folder = tmp_path / "photos" / str(digits.target[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((15 * digits.images[i]).astype("uint8")).save(
            folder / f"{i}.png"
        )
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_photos")
def test_quick_start_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 4
    assert names["model"].score(names["X_test"], names["y_test"]) == 1
    X, y = names["X"], names["y"]
    assert names["pipeline"].score(X[200:], y[200:]) == 0.95
    assert names["search"].best_params_["freeze"] in (6, 8, "all")
    assert names["search"].best_score_ > 0.8
