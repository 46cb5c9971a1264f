"""Text classifiers: adapter, loading, training, whole-data-set passes."""
