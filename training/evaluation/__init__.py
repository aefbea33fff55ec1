"""Out-of-distribution metrics, evaluation of a model file, figures."""
