"""``python -m deblur``."""

from deblur.cli import app

app()
