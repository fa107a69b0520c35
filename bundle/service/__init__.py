"""The bundle as a web service: one model, one queue.

`app.py` has the routes, `connections.py` limits connections, `request_guard.py` requests, `upload_room.py` their
bytes, `access.py` checks host names and tokens, `job_queue.py` queues scans, `turns.py` shares the network,
`responses.py` encodes predictions, `problems.py` errors, `server.py` listens, `logs.py` bounds the log. Importing this
package loads neither torch nor MONAI.
"""

from .settings import Settings

__all__ = ["Settings"]
