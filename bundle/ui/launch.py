"""Start Streamlit with the page, on this machine only unless a token is set."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..errors import UserError
from ..service.settings import Settings, require_safe
from ..weights import find_weights

__all__ = ["OPTIONS", "launch", "settings"]

OPTIONS = "BUNDLE_UI_OPTIONS"  # environment variable with the settings of the page's process, as JSON
PAGE = Path(__file__).with_name("page.py")


def launch(chosen: Settings) -> None:
    """Serve the page until stopped.

    Raises:
        UserError: when weights or Streamlit are missing, or other machines can reach the address without a token.
    """
    require_safe(chosen)
    find_weights(chosen.model)
    try:
        from streamlit.web import bootstrap
    except ImportError:
        raise UserError("the page needs Streamlit: pip install '.[app]'") from None
    named = {"model": chosen.model and str(chosen.model.resolve()), "network": chosen.network, "device": chosen.device}
    os.environ[OPTIONS] = json.dumps(named)
    flags = {
        "server_address": chosen.host,
        "server_port": chosen.port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_maxUploadSize": chosen.limits.request_bytes // 1024**2,
        "server_enableXsrfProtection": True,
        "browser_gatherUsageStats": False,
        "client_showErrorDetails": "none",
        "client_toolbarMode": "minimal",
        "theme_base": "light",
    }
    bootstrap.load_config_options(flags)
    print(f"http://{chosen.host}:{chosen.port}", flush=True)
    bootstrap.run(str(PAGE), False, [], flags)


def settings() -> Settings:
    """Settings of the page's process."""
    named = json.loads(os.environ.get(OPTIONS, "{}"))
    model = named.pop("model", None)
    return Settings(Path(model) if model else None, token=os.environ.get("BUNDLE_TOKEN"), **named)
