"""Serving measured against the bare network and against other servers; see ``README.md`` here."""
