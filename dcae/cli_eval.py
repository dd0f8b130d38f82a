"""The commands `dcae eval ...`. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("eval")
def evaluate() -> None:
    """Measure pictures and codecs."""


@evaluate.command()
@click.argument("a", type=Path)
@click.argument("b", type=Path)
def compare(a: Path, b: Path) -> None:
    """PSNR and MS-SSIM of two pictures of the same size, on their 8-bit sRGB pixels."""
    from dcae.eval.metrics import ms_ssim, ms_ssim_db, psnr
    from dcae.eval.pictures import load_pixels

    first, second = load_pixels(a), load_pixels(b)
    db, similarity = psnr(first, second), ms_ssim(first, second)
    click.echo(f"PSNR     {db:.4f} dB" if db < float("inf") else "PSNR     inf (identical)")
    if similarity is None:
        click.echo("MS-SSIM  none (a side is below 161 pixels)")
    else:
        click.echo(f"MS-SSIM  {similarity:.6f} ({ms_ssim_db(similarity):.4f} dB)")
