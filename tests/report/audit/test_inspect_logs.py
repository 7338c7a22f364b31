from __future__ import annotations

import zipfile
from pathlib import Path

from equipoise.report.audit.inspect_logs import LogIndex


def log(folder: Path, name: str, *samples: str) -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
        for sample in samples:
            archive.writestr(f"samples/{sample}_epoch_1.json", "{}")


def test_a_sample_is_known_by_suite_variant_and_id(tmp_path: Path) -> None:
    log(tmp_path, "2026-01-01T00-00-00-00-00_xstest-plain_AbC.eval", "1", "two_epochs")
    log(tmp_path, "2026-01-01T00-00-00-00-00_mm-safetybench-typo-plain_XyZ.eval", "1")
    index = LogIndex(tmp_path)
    assert index.log_of("xstest", "plain", "1").endswith("xstest-plain_AbC.eval")
    assert index.log_of("xstest", "plain", "two_epochs").endswith("xstest-plain_AbC.eval")
    assert index.log_of("mm-safetybench/typo", "plain", "1").endswith("typo-plain_XyZ.eval")
    assert index.log_of("xstest", "perturbed", "1") == ""
    assert index.log_of("xstest", "plain", "3") == ""


def test_names_that_inspect_cleans_are_found(tmp_path: Path) -> None:
    log(tmp_path, "2026-01-01T00-00-00-00-00_my-suite-defended-adaptive_AbC.eval", "a")
    assert LogIndex(tmp_path).log_of("my_suite", "defended adaptive", "a")


def test_of_a_sample_that_was_sent_again_the_last_log_counts(tmp_path: Path) -> None:
    log(tmp_path, "2026-01-01T00-00-00-00-00_s-plain_B.eval", "a", "b")
    log(tmp_path, "2026-01-02T00-00-00-00-00_s-plain_A.eval", "b")
    index = LogIndex(tmp_path)
    assert index.log_of("s", "plain", "a").startswith("2026-01-01")
    assert index.log_of("s", "plain", "b").startswith("2026-01-02")


def test_a_log_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "2026-01-01T00-00-00-00-00_s-plain_B.eval").write_bytes(b"PK\x03\x04 cut")
    assert LogIndex(tmp_path).log_of("s", "plain", "a") == ""
    assert LogIndex(tmp_path / "nothing").log_of("s", "plain", "a") == ""
