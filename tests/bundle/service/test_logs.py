"""The log: bounded, and in our own words."""

from __future__ import annotations

import logging

import pytest

from bundle.service.logs import OwnWordsFilter, RateFilter, configure_log


def test_what_libraries_say_is_not_written(capfd: pytest.CaptureFixture[str]) -> None:
    import warnings

    configure_log()
    logging.getLogger("pydicom").warning("Invalid value 'CANARY' for %s", "CANARY")
    try:
        raise ValueError("CANARY")
    except ValueError:
        logging.getLogger("highdicom.base").exception("the study CANARY")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("CANARY", UserWarning, stacklevel=1)
    logging.getLogger("bundle.service").info("our line")
    text = capfd.readouterr().err
    assert "CANARY" not in text and "message of pydicom" in text and "highdicom.base (ValueError)" in text
    assert "our line" in text and "Traceback" not in text


def test_a_flood_of_lines_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now, record = [100.0], logging.LogRecord("bundle.service", logging.WARNING, "", 0, "line", (), None)
    monkeypatch.setattr("bundle.service.logs.time.monotonic", lambda: now[0])
    rate = RateFilter({logging.INFO: 5, logging.WARNING: 3})
    assert sum(rate.filter(record) for _ in range(100_000)) == 3
    info = logging.LogRecord("bundle.service", logging.INFO, "", 0, "line", (), None)
    assert sum(rate.filter(info) for _ in range(10)) == 5, "warnings do not use up the lines of others"
    now[0] += 5.0
    assert rate.filter(record) and record.getMessage() == "line (99997 lines left out before)"


def test_a_traceback_is_left_out() -> None:
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "out of %s", ("files",), (OSError, OSError(), None))
    assert OwnWordsFilter().filter(record) and record.getMessage() == "message of asyncio (OSError)"
    assert record.exc_info is None
