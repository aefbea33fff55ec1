"""Other servers with the same network and the same decoding, as their documentation shows them."""
