"""Start Streamlit with the page, on this machine only unless a token is set."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ..errors import UserError
from ..intake import Limits
from ..intake.limits import MIB
from ..service.settings import Settings, require_safe
from ..weights import find_weights

__all__ = ["OPTIONS", "TITLE", "launch", "settings"]

OPTIONS = "BUNDLE_UI_OPTIONS"  # environment variable with the settings of the page's process, as JSON
SCAN_BYTES = 256 * MIB  # more than of a request to the service: a series of hundreds of slices is one scan
TITLE = "Brain MRI: tumor segmentation and classification"
PAGE = Path(__file__).with_name("page.py")


def launch(chosen: Settings) -> None:
    """Serve the page until stopped.

    Raises:
        UserError: when weights or Streamlit are missing, the address cannot be used, or other machines can reach it
            without a token.
    """
    require_safe(chosen)
    find_weights(chosen.model)
    try:
        import streamlit
    except ImportError:
        raise UserError("the page needs Streamlit: pip install '.[app]'") from None
    from starlette.middleware import Middleware
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    from ..service.server import listening
    from .page_guard import PageGuardMiddleware

    named = {"model": chosen.model and str(chosen.model.resolve()), "network": chosen.network, "device": chosen.device}
    os.environ[OPTIONS] = json.dumps(named)
    listening(chosen).close()  # Streamlit answers a port that is taken or impossible after the address is printed
    known = chosen.known_hosts if chosen.token is None else None
    first = HTMLResponse(titled(Path(streamlit.__file__).parent), headers={"Cache-Control": "no-cache"})
    guard = Middleware(PageGuardMiddleware, known_hosts=known)
    app = streamlit.App(PAGE, middleware=[guard], routes=[Route("/", lambda request: first)])
    print(f"http://{chosen.host}:{chosen.port}  (open it in a browser; Ctrl+C ends it)", flush=True)
    sys.argv = [str(PAGE)]  # Streamlit puts the folder of the started script on the path
    app.run(
        config={
            "server.address": chosen.host,
            "server.port": chosen.port,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "server.maxUploadSize": SCAN_BYTES // MIB,
            "server.enableXsrfProtection": True,
            "logger.hideWelcomeMessage": True,
            "browser.gatherUsageStats": False,
            "browser.serverAddress": chosen.host,  # otherwise it asks an outside address for this machine's own one
            "client.showErrorDetails": "none",
            "client.toolbarMode": "minimal",
            "theme.light.primaryColor": "#b45309",
            "theme.dark.primaryColor": "#ff9f1c",
        }
    )


def titled(package: Path) -> str:
    """The HTML that Streamlit sends first, with the page's title, as the page's script sets it seconds later only."""
    html = (package / "static" / "index.html").read_text(encoding="utf-8")
    return html.replace("<title>Streamlit</title>", f"<title>{TITLE}</title>")


def settings() -> Settings:
    """Settings of the page's process."""
    named = json.loads(os.environ.get(OPTIONS, "{}"))
    model = named.pop("model", None)
    limits = Limits(request_bytes=SCAN_BYTES)
    return Settings(Path(model) if model else None, token=os.environ.get("BUNDLE_TOKEN"), limits=limits, **named)
