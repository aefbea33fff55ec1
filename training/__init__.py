"""Images -> ``model.onnx``: data, training, calibration, export, evaluation."""
