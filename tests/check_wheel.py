"""Fail unless the wheel named on the command line holds exactly the three packages, whole."""

import sys
import zipfile
from pathlib import Path

PACKAGES = {"featbank", "heads", "cli"}
ROOT = Path(__file__).parent.parent


def main() -> None:
    for wheel in sys.argv[1:]:
        names = zipfile.ZipFile(wheel).namelist()
        top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        if top != PACKAGES:
            sys.exit(f"{wheel}: top level is {sorted(top)}, not {sorted(PACKAGES)}")
        lacking = sorted(package_files() - set(names))
        if lacking:
            sys.exit(f"{wheel} lacks {', '.join(lacking)}")
        print(f"{wheel}: {sorted(top)}")


def package_files() -> set[str]:
    """Return every file of the packages; the report's template, style and scripts are no Python."""
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


if __name__ == "__main__":
    main()
