"""The heads: scikit-learn classifiers, one method a file."""
