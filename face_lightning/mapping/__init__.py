"""The mapper from embeddings to words and back; importing all modules lets YAML name their classes."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
