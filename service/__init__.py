"""``model.onnx`` -> HTTP."""
