"""Results of `dcae eval speed`: kept in files, compared, written as tables and plots."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from dcae.eval.markdown import seconds
from dcae.eval.speed.plot import plot
from dcae.eval.speed.process import ProcessTimes
from dcae.eval.speed.report import ratio, to_markdown
from dcae.eval.speed.results import AVIF, DIRECTIONS, OURS, PAPER, Measurement, OddSize, Results, load, save, to_csv
from dcae.eval.speed.stages import CODING, ENTROPY, LOAD, OTHER, TRANSFORM, WRITE


def _made_up() -> Results:
    """Ours takes 1 s per megapixel and thread at 1 MP, 2.5 s at 2 MP; AVIF 0.5 s and 1 s; paper 20 s at 1 MP."""
    environment = {"processor": "abacus", "quality": "4", "model": "lite (0123)"}
    results = Results(environment, {OURS: "DCAE lite", AVIF: "AVIF tune=psnr", PAPER: "DCAE paper"}, ["monday"])
    for threads in (1, 2):
        for width, ours, avif, paper in ((1000, 1.0, 0.5, 20.0), (2000, 2.5, 1.0, None)):
            cell = []
            for direction in DIRECTIONS:
                shares = {TRANSFORM: 0.5, ENTROPY: 0.3, CODING: 0.15, OTHER: 0.05}
                stages_of_ours = {LOAD: 9.0} | {k: v * ours / threads for k, v in shares.items()} | {WRITE: 7.0}
                where = (threads, width, 1000, direction)
                cell.append(Measurement(OURS, 4.0, *where, stages_of_ours, 600.0 + width, 50 * width, "monday"))
                stages_of_avif = {LOAD: 9.0, "codec": avif}
                cell.append(Measurement(AVIF, 30.0, *where, stages_of_avif, 70.0, 50 * width, "monday"))
                if paper:
                    cell.append(Measurement(PAPER, 1.0, *where, {TRANSFORM: paper}, None, 9, "monday"))
            results.replace_cell(width, 1000, threads, cell)
    return results


def test_ratios_of_made_up_rows() -> None:
    results = _made_up()
    one, two = (1000, 1000), (2000, 1000)
    assert results.ratios(AVIF, 1, "decode") == {one: pytest.approx(2.0), two: pytest.approx(2.5)}
    assert results.ratios(AVIF, 2, "encode") == {one: pytest.approx(1.0), two: pytest.approx(1.25)}
    assert results.ratios(PAPER, 1, "encode") == {one: pytest.approx(1 / 20)}
    results.measurements = [
        dataclasses.replace(m, run="tuesday") if m.codec == OURS and m.width == 1000 else m
        for m in results.measurements
    ]
    assert set(results.ratios(AVIF, 1, "decode")) == {two}  # not side by side


def test_report_of_made_up_rows() -> None:
    report = to_markdown(_made_up())
    assert "| 1 (1000x1000) | 1 | 0.400 | 1 | 1 | 0.5 | 20 | 2.0 | 1/20.0 |" in report
    assert "| 2 (2000x1000) | 2 | 0.400 | 1.25 | 0.625 | 1 | – | 1.2 | – |" in report
    assert "| DCAE lite | 1 | 2 | 9 | 1.25 | 0.75 | 0.375 |  | 0.125 | 7 |" in report
    assert "| 2 (2000x1000) | 2 | 2600 | 2600 | 70 | 70 | – | – |" in report
    assert "AVIF tune=psnr (Pillow (libaom), speed 6, 4:4:4, tune=psnr) is at quality 30" in report
    assert "from one run (monday)" in report and "Odd sizes" not in report


def test_numbers_of_reports() -> None:
    assert [ratio(v) for v in (None, 1.0, 2.34, 0.2, 456.7, 1 / 345)] == ["–", "1.0", "2.3", "1/5.0", "457", "1/345"]
    assert [seconds(v) for v in (None, 0.0, 123.4, 12.34, 0.01234, 0.00001234)] == [
        "–", "0.000000", "123", "12.3", "0.0123", "0.000012",
    ]  # fmt: skip


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    results = _made_up()
    results.odd = [OddSize(1, 1, 62, None, 1.0, None)]
    results.process = ProcessTimes(5, 1.0, 2.0, 3.0)
    assert load(tmp_path, results.environment) is None
    save(results, tmp_path)
    assert load(tmp_path, results.environment) == results
    assert (tmp_path / "speed.csv").read_text() == to_csv(results)


def plot_is_png(path: Path) -> bool:
    """Whether the file is a picture with something drawn on it."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return pixels.shape[0] > 500 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = _made_up()
    (tmp_path / "plot.png").write_bytes(plot(results, "png"))
    assert plot_is_png(tmp_path / "plot.png")
    drawing = plot(results, "svg")
    assert drawing == plot(results, "svg")
    root = ElementTree.fromstring(drawing)
    assert root.tag.endswith("svg")
    ids = [element.get("id", "") for element in root.iter()]
    assert sum(name.startswith("axes_") for name in ids) == 6
    assert not root.findall(".//{http://www.w3.org/2000/svg}text")  # paths: no font of the reader's is needed
    assert b"<dc:date>" not in drawing
