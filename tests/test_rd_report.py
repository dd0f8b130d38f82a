"""The report of `dcae eval rd`: comparisons, published curves, plots, crops, the page, and README's copy of them."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Page, synthetic_picture
from PIL import Image
from test_rd import ROW

from dcae.errors import OptionError
from dcae.eval.crops import disagreement
from dcae.eval.rd.crops import _ends, strip
from dcae.eval.rd.curves import bpp_at
from dcae.eval.rd.measure import Contestant
from dcae.eval.rd.plots import Line, rate_distortion
from dcae.eval.rd.published import published
from dcae.eval.rd.report import (
    Report,
    _figures,
    _one_of_each_family,
    make_report,
    summary_json,
    write_report,
)
from dcae.eval.rd.rows import Row
from dcae.eval.rd.times import Times, cpu_times
from dcae.eval.rivals import rival

KODAK = [f"kodim{k:02}.png" for k in range(1, 25)]


def _rows(picture: str, codec: str, factor: float, db: float = 0.0) -> list[Row]:
    return [
        replace(
            ROW, picture=picture, codec=codec, quality=10.0 * k + 10, bpp=0.1 * 2**k * factor, psnr=28 + 3 * k + db,
            ms_ssim=1 - 0.1 / 2**k, bytes=round(1000 * 2**k * factor), peak_mib=100.0,
        )
        for k in range(5)
    ]  # fmt: skip


def _report() -> Report:
    rows = []
    for picture, ours in (("a.png", 0.5), ("b.png", 1.1)):
        rows += (
            _rows(picture, "jpeg", 1.0) + _rows(picture, "webp", 0.9) + _rows(picture, "dcae m 0123456789abcdef", ours)
        )
    contestants = [
        Contestant("dcae m 0123456789abcdef", "dcae", (1.0,), "nowhere"),
        Contestant("jpeg", "jpeg", (10.0,)),
        Contestant("webp", "webp", (10.0,)),
    ]
    return make_report(rows, contestants, "jpeg", ["psnr", "ms-ssim"])


def test_comparisons_of_known_rows() -> None:
    report = _report()
    over = {(c.codec, c.metric): c for c in report.comparisons}
    assert over["webp", "psnr"].percent == pytest.approx(-10)
    versus = {(c.codec, c.metric): c for c in report.versus}
    ours = versus["webp", "psnr"]
    assert ours.percent == pytest.approx(100 * (0.8 / 0.9 - 1))  # the mean of 0.5 and 1.1 is 0.8
    assert ours.per_picture == {
        "a.png": pytest.approx(100 * (0.5 / 0.9 - 1)),
        "b.png": pytest.approx(100 * (1.1 / 0.9 - 1)),
    }
    assert [p["saved"]["jpeg"] for p in report.equal] == pytest.approx([20] * 5)
    assert json.loads(summary_json(report))["ours"] == "dcae m 0123456789abcdef"


def test_bytes_at_equal_quality() -> None:
    curve = [(0.1, 30.0), (0.4, 34.0)]
    assert bpp_at(curve, 32) == pytest.approx(0.2)  # halfway in the logarithm
    assert bpp_at(curve, 30) == pytest.approx(0.1)
    assert bpp_at(curve, 29.9) is None and bpp_at(curve, 34.1) is None


def test_published_curves_stand_beside_their_own_pictures_only(tmp_path: Path) -> None:
    curves = {c.name: c for c in published("kodak", KODAK)}
    vtm = next(c for name, c in curves.items() if name.startswith("VTM"))
    assert vtm.bpp == tuple(sorted(vtm.bpp)) and len(vtm.values["psnr"]) == len(vtm.bpp)
    assert all(c.source for c in curves.values())
    with pytest.raises(OptionError, match="24 Kodak pictures"):
        published("kodak", KODAK[:-1])
    path = tmp_path / "own.json"
    path.write_text('{"name": "own", "results": {"bpp": [0.4, 0.1], "psnr": [34, null], "note": "x"}}')
    (own,) = published(str(path), ["a.png"])
    assert own.bpp == (0.1, 0.4) and math.isnan(own.values["psnr"][0]) and own.values["psnr"][1] == 34
    path.write_text('{"name": "new", "results": {"bpp": [0.1], "psnr-rgb": [30], "ms-ssim-rgb": [0.9]}}')
    assert published(str(path), [])[0].values == {"psnr": (30,), "ms-ssim": (0.9,)}
    for content in (
        '{"name": "x", "results": {"bpp": [1], "vif": [1]}}',
        '{"name": "x"}',
        "[1]",
        '{"name": "x", "results": {"bpp": ["a"]}}',
        "{",
    ):
        path.write_text(content)
        with pytest.raises(OptionError, match=re.escape(str(path))):
            published(str(path), [])


def test_equal_bytes_are_searched_between_the_measured_qualities() -> None:
    ladder = [(1000, 10.0), (4000, 40.0), (9000, 90.0)]
    assert _ends(ladder, 2718) == (10, 40)
    assert _ends(ladder, 50) == (10, 10) and _ends(ladder, 9999) == (90, 90)  # beyond the ladder: its end


def test_the_crop_is_where_two_codecs_differ_most() -> None:
    pixels = np.zeros((600, 800, 3), np.uint8)
    a, b = pixels.copy(), pixels.copy()
    a[300:320, 500:520] = 50
    b[0:20, 0:20] = 40
    left, top, right, bottom = disagreement(pixels, a, b)
    assert left <= 500 and right >= 520 and top <= 300 and bottom >= 320
    assert (right - left, bottom - top) == (256, 256)
    small = pixels[:100, :50]
    assert disagreement(small, small, small) == (0, 0, 50, 100)


def test_a_strip_of_real_codecs_at_equal_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    synthetic_picture(320, 288, 1).save(path)
    rows = []
    for name, codec in (("jpeg", rival("jpeg")), ("webp", rival("webp"))):
        for quality in (10, 50, 90):
            size = len(codec.encode(Image.open(path), quality))
            rows.append(replace(ROW, picture="a.png", codec=name, quality=quality, bytes=size))
    found = strip(path, "why", {"jpeg": rival("jpeg"), "webp": rival("webp")}, rows, 30)
    original, first, second = found.crops
    assert original.quality is None and first.quality == 30
    assert abs(second.size / first.size - 1) < 0.1
    assert min(first.psnr, second.psnr) > 20
    assert first.data_uri.startswith("data:image/webp;base64,")


@pytest.mark.slow
def test_the_written_report(tmp_path: Path) -> None:
    report = _report()
    said: list[str] = []
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        write_report(report, tmp_path / str(k), [], said.append)
    first, again = ({p.name: p.read_bytes() for p in (tmp_path / k).rglob("*.*")} for k in "01")
    assert first == again, "the same rows give the same files"
    assert {"index.html", "summary.json", "bd-rate.txt", "jpeg.json", "rd-psnr.svg", "rd-ms-ssim.png"} <= set(first)
    page = Page()
    page.feed(first["index.html"].decode())
    assert page.open == []
    assert all(r.startswith(("data:", "#")) for r in page.references), "self-contained"
    assert page.rows > len(report.rows)
    text = first["index.html"].decode()
    assert "-20.0 %" in text and "1 of 2" in text
    assert text.count("<svg") == len(list((tmp_path / "0").glob("*.svg"))) == 8
    assert Image.open(tmp_path / "0" / "rd-psnr.png").size > (600, 300)


def test_odd_pictures_and_names_do_not_break_the_report(tmp_path: Path) -> None:
    """A nearly empty picture, one too small for MS-SSIM, a name that mathematics would choke on."""
    rows = []
    for picture, scale, small in (("$\\frac$.png", 0.001, False), ("<b>.png", 0.002, True)):
        for codec, factor in (("jpeg", 1.0), ("dcae m 0123456789abcdef", 0.5)):
            found = [replace(r, bpp=r.bpp * scale) for r in _rows(picture, codec, factor)]
            rows += [replace(r, ms_ssim=math.nan) if small else r for r in found]
    contestants = [Contestant("dcae m 0123456789abcdef", "dcae", (1.0,)), Contestant("jpeg", "jpeg", (10.0,))]
    report = make_report(rows, contestants, "jpeg", ["psnr", "ms-ssim"])
    assert [c.percent for c in report.versus] == [pytest.approx(-50)] * 2, "MS-SSIM of the pictures that have it"
    write_report(report, tmp_path, [], lambda line: None)
    text = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;.png" in text and "<b>.png" not in text


def test_a_report_without_a_model_of_ours(tmp_path: Path) -> None:
    rows = []
    for picture, factor in (("a.png", 0.5), ("b.png", 1.1)):
        rows += _rows(picture, "jpeg", 1.0) + _rows(picture, "webp", factor)
    contestants = [Contestant("webp", "webp", (10.0,)), Contestant("jpeg", "jpeg", (10.0,))]
    report = make_report(rows, contestants, "jpeg", ["psnr"])
    assert report.ours is None and report.versus == []
    write_report(report, tmp_path, [], lambda line: None)
    assert "-20.0 %" in (tmp_path / "index.html").read_text()


def test_plots_are_narrow_and_nothing_of_their_titles_is_cut_off() -> None:
    report = _report()
    names = {}
    for name, figure in _figures(report):
        figure.savefig(io.BytesIO(), format="png")  # lays it out
        title, width = figure._suptitle.get_window_extent(), figure.bbox.width
        assert title.x0 >= 0 and title.x1 <= width, name
        (legend,) = figure.legends
        assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= width, name
        # In the 366 pixels that a page of 390 leaves, a line of 8 points is still 8 pixels high.
        assert 8 / 72 / figure.get_figwidth() * 366 > 7.5, name
        names[name] = figure
    assert set(names) == {f"{kind}-{m}" for kind in ("rd", "relative", "pictures") for m in report.metrics} | {
        "time-encode", "time-decode",
    }  # fmt: skip
    (axes,) = names["time-encode"].axes
    assert sorted(line.get_label() for line in axes.lines if not line.get_label().startswith("_")) == [
        "DCAE m", "JPEG", "WebP",
    ]  # fmt: skip


def _timed(codec: str, factor: float, encode: float) -> list[Row]:
    """A codec whose files take `encode` CPU seconds; at its lowest quality ten times as much."""
    rows = _rows("a.png", codec, factor)
    rows = [replace(r, width=1000, height=500, encode_cpu=encode, decode_cpu=encode / 2) for r in rows]
    return [replace(rows[0], encode_cpu=10 * encode), *rows[1:]]


def _timed_report() -> Report:
    ours = "dcae m 0123456789abcdef"
    rows = [r for r in _timed(ours, 0.5, 1.0) if r.quality > 10]
    speeds = {"avif-psnr": (0.6, 0.8), "avif-s4-psnr": (0.5, 3.0), "avif-s2-psnr": (0.4, 9.0), "webp": (1.0, 0.1)}
    for codec, (factor, encode) in speeds.items():
        rows += _timed(codec, factor, encode)
    contestants = [Contestant(ours, "dcae", (1,), "nowhere"), *(Contestant(c, c, (1,)) for c in speeds)]
    return make_report(rows, contestants, "avif-psnr", ["psnr"])


def test_cpu_time_per_megapixel_of_known_rows() -> None:
    report = _timed_report()
    # Ours begins at 31 dB; where it does not reach, the others' slow files do not count.
    assert report.times["avif-psnr"] == Times(pytest.approx(1.6), pytest.approx(0.8))
    assert cpu_times(report.rows, None)["avif-psnr"].encode == pytest.approx(2 * 0.8 * 14 / 5)
    variants = {v.codec: v for v in report.variants}
    assert set(variants) == {"avif-s4-psnr", "avif-s2-psnr"}
    assert variants["avif-s4-psnr"].percent["psnr"] == pytest.approx(100 * (0.5 / 0.6 - 1))
    assert variants["avif-s2-psnr"].encode == pytest.approx(9 / 0.8)
    (axes,) = dict(_figures(report))["time-encode"].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["AVIF tune=psnr"].get_xdata()) == pytest.approx([1.6, 6, 18])
    assert list(lines["AVIF tune=psnr"].get_ydata()) == pytest.approx([0, -100 / 6, -100 / 3])


def test_long_names_fit_into_the_legend() -> None:
    lines = [Line(f"DCAE lite-msssim-{k}@2 80e499f7", [(0.1, 30), (1, 40)], True) for k in range(12)]
    figure = rate_distortion(lines, "psnr")
    figure.savefig(io.BytesIO(), format="png")
    (legend,) = figure.legends
    assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= figure.bbox.width


def test_efforts_are_compared_with_none() -> None:
    rows, contestants = [], []
    for model, effort, factor, seconds in (("m", 0, 0.5, 1.0), ("m@4", 4, 0.4, 25.0), ("m@2+ms-ssim", 2, 0.6, 5.0)):
        label = f"dcae {model} 0123456789abcdef"
        rows += [replace(r, encode_cpu=seconds) for r in _rows("a.png", label, factor)]
        contestants.append(Contestant(label, "dcae", (1,), "nowhere", effort=effort))
    contestants.append(Contestant("avif-psnr", "avif-psnr", (1,)))
    report = make_report([*rows, *_rows("a.png", "avif-psnr", 0.6)], contestants, "avif-psnr", ["psnr"])
    assert [(v.codec[5:-17], v.over[5:-17]) for v in report.variants] == [("m@4", "m"), ("m@2+ms-ssim", "m")]
    assert [v.percent["psnr"] for v in report.variants] == pytest.approx([-20, 20])
    assert [v.encode for v in report.variants] == pytest.approx([25, 5])
    figures = dict(_figures(report))
    lines = [line.get_label() for line in figures["rd-psnr"].axes[0].lines]
    assert lines == ["DCAE m 01234567", "DCAE m@2+ms-ssim 01234567", "AVIF speed 6 tune=psnr"], "one effort of each"
    (axes,) = figures["time-encode"].axes
    assert [text.get_text() for text in axes.texts] == ["0", "4"] and "DCAE m" in [x.get_label() for x in axes.lines]
    said = _refresh_readme().rate_distortion({"kodak": json.loads(summary_json(report))})
    assert "| DCAE m@4 01234567 over DCAE m 01234567 | -20 % | 25.0 | 1.0 |" in said


def test_a_codec_measured_on_some_pictures_is_compared_on_these_alone() -> None:
    ours = "dcae m 0123456789abcdef"
    rows = [r for picture, f in (("a.png", 0.5), ("b.png", 1.1)) for r in _rows(picture, ours, f)]
    rows += [r for picture in ("a.png", "b.png") for r in _rows(picture, "avif-psnr", 1.0)]
    slow = [replace(r, encode_cpu=9.0, width=1000, height=1000) for r in _rows("a.png", "avif-s2-psnr", 0.8)]
    rows = [replace(r, encode_cpu=1.0, width=1000, height=1000) for r in rows]
    contestants = [Contestant(ours, "dcae", (1,), "nowhere"), Contestant("avif-psnr", "avif-psnr", (1,))]
    without = make_report(rows, contestants, "avif-psnr", ["psnr"])
    sampled = Contestant("avif-s2-psnr", "avif-s2-psnr", (1,), every=4)
    report = make_report([*rows, *slow], [*contestants, sampled], "avif-psnr", ["psnr"])
    assert report.labels["avif-s2-psnr"] == "AVIF speed 2 tune=psnr (1 pictures)"
    assert report.equal == without.equal and report.comparisons[0] == without.comparisons[0]
    assert report.comparisons[1].percent == pytest.approx(-20)
    assert report.versus[1].percent == pytest.approx(100 * (0.5 / 0.8 - 1)), "of a.png, which both have"
    assert report.times["avif-s2-psnr"].encode == 9
    (variant,) = report.variants
    assert variant.percent["psnr"] == pytest.approx(-20) and variant.encode == 9
    figures = dict(_figures(report))
    shown = [line.get_label() for line in figures["rd-psnr"].axes[0].lines]
    assert "AVIF speed 6 tune=psnr" in shown and not any("speed 2" in label for label in shown)
    assert "2 (1 pictures)" in [text.get_text() for text in figures["time-encode"].axes[0].texts]
    said = _refresh_readme().headline("Pictures", json.loads(summary_json(report)))
    assert "38 % fewer bytes than AVIF speed 2 tune=psnr (1 pictures), the strongest at any speed (9)" in said


def test_ours_is_one_on_all_pictures_where_there_is_one() -> None:
    first, second = "dcae m@4 0123456789abcdef", "dcae m 0123456789abcdef"
    rows = [r for c in (first, second, "jpeg") for r in _rows("a.png", c, 1.0)]
    rows += [r for c in (second, "jpeg") for r in _rows("b.png", c, 1.0)]
    sampled, whole = (Contestant(label, "dcae", (1,), "nowhere", every=k) for label, k in ((first, 2), (second, 1)))
    others = [Contestant("jpeg", "jpeg", (1,))]
    assert make_report(rows, [sampled, whole, *others], "jpeg", ["psnr"]).ours == second
    report = make_report([r for r in rows if r.codec != second], [sampled, *others], "jpeg", ["psnr"])
    assert report.ours == first and report.equal == [] and report.versus[0].percent == pytest.approx(0)


def test_readmes_headline_names_the_rival_at_our_time_and_the_best() -> None:
    summary = json.loads(summary_json(_timed_report()))
    said = _refresh_readme().headline("Pictures", summary)
    assert "17 % fewer bytes than AVIF speed 6 tune=psnr, the strongest of the others that encode in no more" in said
    assert "(1.6 s per megapixel, ours 2)" in said
    assert "25 % more bytes than AVIF speed 2 tune=psnr, the strongest at any speed (18)" in said


def test_crops_leave_out_the_slow_members_of_a_family() -> None:
    report = _timed_report()
    assert [c.label for c in _one_of_each_family(report)] == ["dcae m 0123456789abcdef", "avif-psnr", "webp"]


def test_readmes_headline_says_where_single_pictures_fare_otherwise() -> None:
    """Of two pictures at 0.5 and 1.1 of the bytes the sum is 20 % less, and so is the mean; not of unequal ones."""
    report = _report()
    assert "as the mean" not in _refresh_readme().headline("Pictures", json.loads(summary_json(report)))
    large = [replace(r, bpp=r.bpp * (10 if r.picture == "b.png" else 1)) for r in report.rows]
    report = make_report(large, report.contestants, "jpeg", ["psnr"])
    said = _refresh_readme().headline("Pictures", json.loads(summary_json(report)))
    assert "by PSNR 16 % more bytes than WebP (-11 % as the mean of each picture's), the" in said


def _refresh_readme():  # type: ignore[no-untyped-def]
    path = Path(__file__).parent.parent / "tools" / "refresh_readme.py"
    spec = importlib.util.spec_from_file_location("refresh_readme", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_says_what_was_measured() -> None:
    module = _refresh_readme()
    text = module.README.read_text(encoding="utf-8")
    assert module.refreshed(text) == text, "run python tools/refresh_readme.py"
