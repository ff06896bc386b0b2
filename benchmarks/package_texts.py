"""Write tables of texts from Debian's list of packages, for `benchmarks/text.py`.

The texts are the short descriptions of packages, and need no download where the lists
of `apt` are. The labels of two tables say what a package is for, which its description
tells. Those of the other two, whether it is large and whether it is the same for all
architectures, can hardly be guessed from it: a probe of 8 texts per class is little
better than chance.

    python benchmarks/package_texts.py FOLDER
    python benchmarks/text.py FOLDER --data package_size,package_architecture,
        package_purpose,package_section --sizes 8 --seeds 6 --held-out 200
        --ways "probe;default"
"""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

_FIELD = re.compile(r"^([A-Za-z-]+): (.*)$", flags=re.MULTILINE)
_FIELDS = ["Description", "Section", "Installed-Size", "Architecture"]


def read_packages():
    """Return the packages in random order, those of one description once."""
    listed = subprocess.run(
        ["apt-cache", "dumpavail"], capture_output=True, text=True, check=True
    )
    rows = (dict(_FIELD.findall(text)) for text in listed.stdout.split("\n\n"))
    packages = pd.DataFrame(rows, columns=_FIELDS).dropna(subset="Description")
    packages["Installed-Size"] = pd.to_numeric(packages["Installed-Size"])
    packages = packages.drop_duplicates("Description")
    return packages.sample(frac=1, random_state=0)


def of_sections(packages, names):
    """Return the packages of some sections."""
    return packages[packages["Section"].isin(names.split())]


def by_size(packages):
    """Return packages among the largest or the smallest 30% of some sections."""
    names = "utils misc net admin science games sound graphics"
    some = of_sections(packages, names)
    low, high = some["Installed-Size"].quantile([0.3, 0.7])
    some = some[(some["Installed-Size"] < low) | (some["Installed-Size"] > high)]
    return some["Description"], some["Installed-Size"] > high


def by_architecture(packages):
    """Return packages, and whether they are the same for all architectures."""
    some = of_sections(packages, "libs python perl utils games")
    return some["Description"], some["Architecture"] == "all"


def by_purpose(packages):
    """Return packages, and whether they are for developers."""
    some = of_sections(packages, "devel utils")
    return some["Description"], some["Section"] == "devel"


def by_section(packages):
    """Return packages of five sections."""
    some = of_sections(packages, "net admin misc text science")
    return some["Description"], some["Section"]


TASKS = {
    "package_purpose": by_purpose,
    "package_section": by_section,
    "package_size": by_size,
    "package_architecture": by_architecture,
}


def main():
    """Write a table of 3,000 texts for each task."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    packages = read_packages()
    for name, select in TASKS.items():
        texts, labels = select(packages)
        table = pd.DataFrame({"label": pd.factorize(labels, sort=True)[0]})
        table["text"] = texts.to_numpy()
        table = table.sample(3000, random_state=0)
        table.to_csv(Path(sys.argv[1]) / f"{name}.csv", index=False)
        print(name, table["label"].value_counts().sort_index().tolist())


if __name__ == "__main__":
    main()
