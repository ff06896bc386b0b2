"""The code of the user guide, for tests that run it."""

import re
import textwrap
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs/user_guide"


def run_block(page, word, names):
    """Run the one code block of a page that holds a word, and return its names.

    `names` are those that the text before it has introduced.
    """
    text = (GUIDE / f"{page}.rst").read_text()
    blocks = re.findall(r"^\.\. code-block:: python\n((?:\n|   .*\n)+)", text, re.M)
    (code,) = (block for block in blocks if word in block)
    names = {"__name__": f"{page} of the guide", **names}
    exec(compile(textwrap.dedent(code), f"{page}.rst", "exec"), names)
    return names
