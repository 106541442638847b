"""The version of the package, its only definition (`setup.py` reads this file)."""

__version__ = "0.1.0"
