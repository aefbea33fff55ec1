"""A classifier trained elsewhere, with a plain softmax layer -> a self-describing model.onnx."""
