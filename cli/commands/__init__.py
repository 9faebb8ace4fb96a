"""The commands, one file each: its options, one call of featbank, and printing."""
