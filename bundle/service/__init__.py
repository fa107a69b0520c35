"""The bundle as a web service: one model, one queue, every prediction with its reasons and its limits.

`app.py` has the routes, `request_guard.py` limits what comes in, `job_queue.py` limits what runs at a time,
`responses.py` encodes what goes out, `problems.py` the refusals, `server.py` listens. Importing this package loads
neither torch nor MONAI.
"""

from .settings import Settings

__all__ = ["Settings"]
