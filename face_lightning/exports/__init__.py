"""Export of a finished run to formats that can be read without this package."""
