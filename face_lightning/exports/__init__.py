"""A finished run in formats that need no part of this package."""
