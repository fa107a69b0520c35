"""Find the bundle's folder, make its components importable, and run its configs as MONAI workflows."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .allocation import keep_freed_memory
from .core import BUNDLE_ROOT
from .errors import UserError
from .minimal_monai import import_minimal_monai
from .plain_config import NotPlainError, components

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

__all__ = ["BUNDLE_ROOT", "load_workflow", "parse", "run_workflow", "torch_device"]

minimal_monai = False  # import MONAI without its optional packages: set in a process of our own that does not train


def make_importable(root: Path) -> None:
    """Put a bundle's folder first on the path, and unload the `scripts` package of another bundle."""
    loaded = sys.modules.get("scripts")
    if loaded is not None and root not in [Path(p).parent for p in getattr(loaded, "__path__", [])]:
        for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
            del sys.modules[name]
    if str(root) in sys.path:
        sys.path.remove(str(root))
    sys.path.insert(0, str(root))


def silence_loggers() -> None:
    """Silence the start messages of MONAI and ignite, so that progress, tables and errors stay visible."""
    logging.getLogger("ignite").setLevel(logging.WARNING)
    for name in ("monai.bundle.workflows", "monai.data.image_reader", "monai.data.nvimgcodec_pydicom_plugin"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def suppress_monai_warnings(root: Path = BUNDLE_ROOT) -> Iterator[None]:
    """Run a bundle's configs without MONAI's warnings about deprecations and, of our own, about running configs.

    Args:
        root: the bundle's folder; of a foreign one MONAI warns that its config can run any code.
    """
    with warnings.catch_warnings():
        if root.resolve() == BUNDLE_ROOT.resolve():
            warnings.filterwarnings("ignore", message="parsing config_file")
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy")  # MONAI's own call of its own function
        yield


def load_workflow(configs: Sequence[str], root: Path = BUNDLE_ROOT, **overrides: Any) -> ConfigWorkflow:
    """Load a MONAI workflow from config files of the bundle.

    Args:
        configs: file names in `configs/`, the first complete, the others overlays.
        root: the bundle's folder.
        overrides: values by config id; `#` for nested ones.
    """
    keep_freed_memory()
    if minimal_monai:
        import_minimal_monai()
    from monai.bundle import ConfigWorkflow

    from .core.files import escape_config_value as escape

    silence_loggers()
    make_importable(root)
    files = [str(root / "configs" / name) for name in configs]
    with suppress_monai_warnings(root):
        return ConfigWorkflow(
            config_file=files if len(files) > 1 else files[0],
            meta_file=str(root / "configs" / "metadata.json"),
            logging_file=False,
            bundle_root=escape(str(root)),
            **{id: escape(value) for id, value in overrides.items()},
        )


def run_workflow(run_id: str, configs: Sequence[str], root: Path = BUNDLE_ROOT, **overrides: Any) -> None:
    """Run a workflow of the bundle; print only progress bars and tables."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    workflow = load_workflow(configs, root, **overrides)
    workflow.run_id = run_id
    with suppress_monai_warnings(root), logging_redirect_tqdm():
        workflow.initialize()
        workflow.run()
        workflow.finalize()


def torch_device(name: str) -> str:
    """The config expression of a device.

    Raises:
        UserError: when this machine has no such device.
    """
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}; try --device cpu") from None
    return f"$torch.device('{name}')"


def parse(config: str, ids: Sequence[str], root: Path = BUNDLE_ROOT, **overrides: Any) -> dict[str, Any]:
    """Instantiate components of one config, by their ids; without MONAI where their arguments are plain values."""
    make_importable(root)
    with suppress(NotPlainError):
        return components(root / "configs" / config, ids, overrides)
    workflow = load_workflow([config], root, **overrides)
    with suppress_monai_warnings(root):
        workflow.initialize()
        return {id: workflow.parser.get_parsed_content(id) for id in ids}
