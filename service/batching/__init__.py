"""The bounded queue, micro-batches and the slots that run them."""
