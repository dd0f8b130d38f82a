"""The tool that measures batches: a small run of it, and the table that it writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import synthetic_picture

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    synthetic_picture(40, 30).save(tmp_path / "in" / "a.png")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- batches: begin -->\nold\n<!-- batches: end -->\nafter\n", "utf-8")
    arguments = [str(tmp_path / "in"), "--cores", "2", "--pictures", "3", "--rounds", "1", "-o", str(page)]
    subprocess.run([sys.executable, str(ROOT / "tools" / "batch_speed.py"), *arguments], check=True, cwd=tmp_path)
    head, table, tail = re.split("<!-- batches: .*? -->\n", page.read_text("utf-8"))
    assert (head, tail) == ("before\n", "after\n") and "old" not in table
    rows = {cells[1].strip(): cells for line in table.splitlines() if len(cells := line.split("|")) == 9}
    assert rows["`--jobs 1`"][3].strip() == rows["`--jobs 1`"][6].strip() == "1.00"
    assert float(rows["`--jobs 2`"][2]) > 0 and float(rows["`--jobs 2`"][5]) > 0
    assert "3 pictures of 0.00 megapixels" in table
