import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_quick_start_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3
    X, y = names["X"], names["y"]
    assert names["pipeline"].score(X[200:], y[200:]) == 0.95
    assert names["search"].best_params_["freeze"] in (6, 8, "all")
    assert names["search"].best_score_ > 0.8
