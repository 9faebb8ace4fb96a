"""Many heads on many banks, kept in a folder, with intervals and differences."""
