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
    folder, stages, depths = blocks
    names = {}
    exec(folder, names)
    assert names["model"].score(names["X_test"], names["y_test"]) == 1
    exec(stages, names)
    X, y = names["X"], names["y"]
    assert names["search"].best_params_ == {"features__stage": "blocks.3"}
    assert names["search"].score(X[200:], y[200:]) == 0.95
    exec(depths, names)
    assert names["search"].best_params_["freeze"] in (6, 8, "all")
    assert names["search"].best_score_ > 0.8


def test_pictures_and_links_of_the_readme_lead_somewhere():
    text = README.read_text()
    targets = re.findall(r'src="([^"]+)"', text) + re.findall(r"]\(([^)#]+)", text)
    assert "docs/_static/idea.svg" in targets
    for target in targets:
        assert (README.parent / target).exists(), target
