"""model.onnx -> HTTP: decoding, batching, inference, verdicts. Imports neither torch nor onnx."""
