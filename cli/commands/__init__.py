"""One command a file: options, one call, printing."""
