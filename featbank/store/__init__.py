"""The files of a bank: the manifest, the journal, chunks, and what is read of them."""
