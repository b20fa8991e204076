"""A finished run as an HTTP service."""
