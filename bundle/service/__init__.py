"""The bundle as a web service: one model, one queue, every answer with its reasons and its limits.

`app.py` routes, `door.py` bounds what may come in, `work.py` bounds what is done at a time, `answers.py` says what goes
out, `problems.py` how a refusal looks, `server.py` where it listens. Importing this package loads neither torch nor
MONAI.
"""

from .settings import Settings

__all__ = ["Settings"]
