"""Features that already exist in files, into a bank: `import_features`."""

from featbank.importing.arrange import FeatureArrays, arrange
from featbank.importing.npy import read_arrays
from featbank.importing.run import import_features
from featbank.importing.sources import SUFFIXES, read_source

__all__ = ["SUFFIXES", "FeatureArrays", "arrange", "import_features", "read_arrays", "read_source"]
