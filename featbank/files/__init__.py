"""Safe writing of files, which loses nothing, and safe reading, which runs nothing."""
