"""From an encoded image to a verdict, without threads or sockets."""
