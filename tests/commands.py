"""The commands as tests call them."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.main import main

__all__ = ["contents", "featbank", "refused"]


def featbank(*args: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


def refused(code: int, *args: Any) -> str:
    """Run what must fail; return its line, which must be the only one where usage was right."""
    done = featbank(*args)
    assert done.exit_code == code, done.output
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert "Traceback" not in done.output
    assert code == 2 or len(lines) == 1, done.stderr
    return lines[-1]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
