"""The kinds of data sets that can be named, one file each."""
