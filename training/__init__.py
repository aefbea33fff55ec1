"""Images -> ``model.onnx``: training, calibration, export, evaluation and the papers' tables."""
