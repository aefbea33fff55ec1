"""What training and serving agree on: networks, heads, scores, pixels and the model card."""
