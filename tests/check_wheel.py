"""Fail unless the wheel named on the command line holds exactly the three packages."""

import sys
import zipfile

PACKAGES = {"featbank", "heads", "cli"}


def main() -> None:
    for wheel in sys.argv[1:]:
        names = zipfile.ZipFile(wheel).namelist()
        top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        if top != PACKAGES:
            sys.exit(f"{wheel}: top level is {sorted(top)}, not {sorted(PACKAGES)}")
        print(f"{wheel}: {sorted(top)}")


if __name__ == "__main__":
    main()
