"""The bundle as a web service: one model, one queue.

`app.py` has the routes, `request_guard.py` limits requests, `job_queue.py` queues scans, `responses.py` encodes
predictions, `problems.py` errors, `server.py` listens. Importing this package loads neither torch nor MONAI.
"""

from .settings import Settings

__all__ = ["Settings"]
