"""Tables on terminals of several widths: nothing is cut, whatever there is no room for."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

from cli._show import folded

COLUMNS = [
    "head", "many", "medium", "few", "all", "95% of all", "parameters", "chosen on", "seconds",
]  # fmt: skip
ROWS = [
    ["ncm", "100.0", "95.3", "90.4", "93.8", "91.5-95.7", "transform=cl2n, metric=l2", "-", "0.19"],
    ["crt", "99.1", "96.7", "91.2", "94.6", "92.5-96.3", "weight_decay=0.1", "val", "1234.27"],
]
# How many tables the columns come in, by the width of the terminal.
TABLES = {40: 3, 60: 2, 80: 1, 120: 1}
PRINT = f"from cli._show import print_table; print_table('a title', {COLUMNS!r}, {ROWS!r})"


def on_terminal(width: int) -> str:
    """Return what a program prints of the table on a terminal of so many columns."""
    child, descriptor = pty.fork()
    if child == 0:
        size = struct.pack("HHHH", 40, width, 0, 0)
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        # Not os.environ: a library may have put COLUMNS into the environment behind its back.
        words = {"PATH", "HOME", "PYTHONPATH", "LANG", "LC_ALL"}
        kept = {name: os.environ[name] for name in words & os.environ.keys()}
        environment = {**kept, "TERM": "xterm", "NO_COLOR": "1"}
        os.execve(sys.executable, [sys.executable, "-c", PRINT], environment)
    parts = []
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # the terminal's other side is closed
            break
        if not part:
            break
        parts.append(part)
    assert os.waitpid(child, 0)[1] == 0
    return re.sub(r"\x1b\[\d*m", "", b"".join(parts).decode())


@pytest.mark.parametrize("width", TABLES)
def test_no_number_is_cut_and_no_line_is_too_long(width: int) -> None:
    shown = on_terminal(width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown
    words = shown.split()
    for row in ROWS:
        for cell in row:
            if re.fullmatch(r"[\d.]+(-[\d.]+)?", cell):
                assert cell in words
    # Words may be broken over lines, and stay whole when the lines are put together.
    assert "".join(words).count("metric") == 1
    assert sum(line.startswith(" head") for line in lines) == (
        3 if width == 40 else 2 if width == 60 else 1
    )


def test_every_column_stands_in_one_table_and_the_first_in_all() -> None:
    widths = [max(len(row[place]) for row in [COLUMNS, *ROWS]) for place in range(len(COLUMNS))]
    for width in (1, 40, 60, 80, 1000):
        tables = folded(COLUMNS, widths, width, 2)
        assert all(table[0] == 0 for table in tables)
        assert [place for table in tables for place in table[1:]] == list(range(1, len(COLUMNS)))
