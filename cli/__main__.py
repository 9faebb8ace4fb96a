"""`python -m cli` is `featbank`."""

from cli.main import main

main(prog_name="featbank")
