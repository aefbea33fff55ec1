"""HTTP: connections, bodies, routes and responses."""
