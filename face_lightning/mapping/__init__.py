"""From embeddings to words and back; all files are imported, so that YAML knows their classes by name."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
