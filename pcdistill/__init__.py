"""pcdistill: ask a 3D scan questions in plain words."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pcdistill")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
