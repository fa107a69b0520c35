"""Send the DICOM files of predictions to an archive over DICOMweb, and read them back.

Reference: DICOM PS3.18, 10.5 (store transaction, STOW-RS) and 10.4 (retrieve transaction, WADO-RS).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import UserError
from .answers import DICOM_FILES, predictions_in

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["send"]


def send(
    folder: Path, url: str, token: str | None = None, say: Callable[[str], None] = lambda line: None
) -> dict[str, list[str]]:
    """Store the DICOM SEG, SR and RTSTRUCT files of all predictions in an archive; compare what it returns.

    Args:
        folder: of predictions.
        url: the archive's DICOMweb service.
        token: sent as a bearer token.
        say: gets one line for each file.

    Returns:
        Files that the archive has now, by scan.

    Raises:
        UserError: when the folder has no DICOM files, or the archive cannot be reached, refuses a file, or returns
            another one.
    """
    import requests
    from dicomweb_client.api import DICOMwebClient
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise UserError(f"{url}: not the address of a DICOMweb service, such as http://HOST:8042/dicom-web")
    wanted = {scan: [entry[kind] for kind in DICOM_FILES if kind in entry] for scan, entry in predictions_in(folder)}
    if not any(wanted.values()):
        remedy = "predict DICOM series with --dicom-seg --dicom-sr --rtstruct"
        raise UserError(f"{folder}: no DICOM files of predictions; {remedy}")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = DICOMwebClient(url, headers=headers)
    sent: dict[str, list[str]] = {}
    for scan, names in wanted.items():
        for name in names:
            try:
                dataset = dcmread(folder / name)
                _store(client, dataset, name, url)
                changed = _changed(dataset, _returned(client, dataset))
            except requests.ConnectionError:
                raise UserError(f"{url}: cannot be reached; check the address and whether the archive runs") from None
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else "no"
                remedy = " (set BUNDLE_DICOMWEB_TOKEN)" if status in (401, 403) else ""
                raise UserError(f"{url}: refused {name}, HTTP status {status}{remedy}") from None
            except (OSError, InvalidDicomError) as error:
                raise UserError(f"{folder / name}: {error}; predict it again") from None
            if changed:
                raise UserError(f"{url}: returned {name} with another {changed}; it is stored, but not as it was sent")
            sent.setdefault(scan, []).append(name)
            say(f"stored  {name}")
    return sent


def _store(client: Any, dataset: Dataset, name: str, url: str) -> None:
    """Store one file.

    Raises:
        UserError: when the archive says that it did not store it.
    """
    answer = client.store_instances([dataset])
    if failed := answer.get("FailedSOPSequence"):
        raise UserError(f"{url}: did not store {name} (reason {int(failed[0].get('FailureReason', 0)):#06x})")


def _returned(client: Any, dataset: Dataset) -> Dataset:
    """The file as the archive returns it, in the syntax in which it was stored."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    found: Dataset = client.retrieve_instance(
        dataset.StudyInstanceUID,
        dataset.SeriesInstanceUID,
        dataset.SOPInstanceUID,
        media_types=(("application/dicom", syntax),),
    )
    return found


def _changed(sent: Dataset, returned: Dataset) -> str | None:
    """Name of the first element that differs; None if all are equal."""
    for element in sent:
        if element.tag not in returned or returned[element.tag].value != element.value:
            return str(element.keyword or element.tag)
    return None
