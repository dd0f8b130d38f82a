"""The codec: a loaded model, `encode` to bytes and `decode` back."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dcae.codec import feedback
from dcae.codec.coder import SymbolDecoder, SymbolEncoder, SymbolTables
from dcae.codec.container import (
    COLOURS,
    NUMERICS,
    QUALITY_STEPS,
    Container,
    Header,
    read_container,
    write_container,
)
from dcae.codec.limits import MAX_PIXELS, check_limit, check_size
from dcae.codec.picture import from_pixels, open_picture, to_pixels
from dcae.codec.process import check_process
from dcae.entropy.portable import PortableEntropyModel
from dcae.errors import FileFormatError, ModelNotFoundError, OptionError, PictureError, SymbolMismatchError
from dcae.models.installed import find_model
from dcae.models.modelfile import CodingModel, load_model
from dcae.networks.base import EntropyModel, check_device, pad_to_multiple
from dcae.networks.config import METRICS


class Codec:
    """A model kept loaded.

    Args:
        model: name of an installed model, path of a model file, or a loaded :class:`CodingModel`.
        device: torch device of the networks.
        max_pixels: largest number of pixels, padded to multiples of 64 in both directions; larger pictures are
            refused, those of files before anything is allocated. Decoding with `lite` takes at most 32 MiB and 256
            bytes per padded pixel, by default 4.3 GB.

    Threads may share a codec. Processes that are forked off after it was used with several threads may not: they
    would wait for threads that they do not have, and are refused. Start them, each with a codec of its own, by
    `multiprocessing.get_context("spawn")`.

    Raises:
        ModelNotFoundError, ModelFileError: no such model, or a damaged one.
        OptionError: a device that is not there, or a limit that is no positive integer.
    """

    def __init__(
        self, model: str | Path | CodingModel = "lite", device: str = "cpu", max_pixels: int = MAX_PIXELS
    ) -> None:
        check_device(device)
        self.max_pixels = check_limit(max_pixels)
        if device.startswith("mps"):
            raise OptionError("device mps has no float64, which the entropy model needs; use the cpu")
        self.device = device
        if not isinstance(model, CodingModel):
            with torch.device("cpu"):  # whatever the default device is; the network is moved when it is whole
                model = load_model(find_model(model).path, device)
        self.model = model
        self.network, self.prior = self.model.network, self.model.prior
        self._priors: dict[str, EntropyModel] = {self.prior.numerics: self.prior}
        self._tables_y = SymbolTables(self.model.tables_y)
        self._tables_z = SymbolTables(self.model.tables_z)

    def encode(
        self,
        image: Image.Image | str | Path | bytes,
        quality: float | None = None,
        portable: bool = False,
        correct_means: bool | None = None,
    ) -> bytes:
        """A picture as the bytes of a `.dcae` file.

        Args:
            image: a Pillow picture, a path, or the bytes of a picture file.
            quality: 1 (smallest file) to 8 with the default model, any number between; stored in steps of 1/256.
                By default 4, or the highest that the model has.
            portable: evaluate the entropy model in float64 unless it is exact, which `lite`'s always is; decoding
                takes longer, and is less likely to fail on other machines.
            correct_means: decode what was coded, correct its brightness and code again (see `dcae/codec/feedback.py`);
                the better of the two by λ·D + R is kept. By default where the network gains by it.

        Raises:
            PictureError: unreadable, too large, or of a kind that is not coded.
            OptionError: a quality that the model does not cover.
            DCAEError: a process that cannot code (forked off, or with another rounding mode).
        """
        with self._coding():
            return self._encode(image, quality, portable, correct_means)

    def _encode(
        self,
        image: Image.Image | str | Path | bytes,
        quality: float | None,
        portable: bool,
        correct_means: bool | None,
    ) -> bytes:
        picture = image if isinstance(image, Image.Image) else open_picture(image)
        check_size(picture.width, picture.height, self.network.config.stride, self.max_pixels, PictureError)
        pixels, mode = to_pixels(picture)
        if quality is None:
            quality = self.network.config.default_quality
        self.network.config.lambda_of(quality)
        steps = round(quality * QUALITY_STEPS)
        quality = steps / QUALITY_STEPS
        prior = self._prior("float64") if portable and self.prior.numerics == "float32" else self.prior
        x = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None].float() / 255
        coded = self._coded(pad_to_multiple(x, self.network.config.stride), quality, prior)
        if self.network.corrects_means if correct_means is None else correct_means:
            coded = self._fed_back(x, coded, quality, prior)
        header = Header(
            width=pixels.shape[1],
            height=pixels.shape[0],
            colour=COLOURS.index(mode),
            numerics=NUMERICS.index(prior.numerics),
            quality=steps,
            model=self.model.header.short_id,
            check=coded.check,
        )
        return write_container(Container(header, coded.z, coded.y))

    def _coded(self, x: Tensor, quality: float, prior: EntropyModel) -> _Coded:
        """A padded picture (1, 3, H, W) as coded sections."""
        q = self._conditioning(quality)
        y = self.network.analysis(x, q).float()
        z = self.network.hyper_analysis(y, q).float()
        check = _Check()
        z_rows = _channel_rows(z.shape)
        z_symbols = self._tables_z.clamp(_symbols(z - self.model.z_median), z_rows)
        z_encoder = SymbolEncoder(self._tables_z)
        z_encoder.encode(z_symbols, z_rows)
        check.add(z_symbols)

        y_encoder = SymbolEncoder(self._tables_y)
        latents = self._latents(x, y, q)

        def code(mean: Tensor, rows: NDArray[np.uint8], y_hats: list[Tensor]) -> NDArray[np.int32]:
            symbols = self._tables_y.clamp(_symbols(latents(y_hats) - mean), rows)
            y_encoder.encode(symbols, rows)
            return symbols

        y_hat, _ = self._walk(prior, z_symbols, z.shape, quality, code, check)
        return _Coded(z_encoder.finish(), y_encoder.finish(), check.value, y_hat)

    def _latents(self, x: Tensor, y: Tensor, q: Any) -> Callable[[list[Tensor]], Tensor]:
        """What gives the encoder the latents to code next, by the slices ŷ that are coded already: those of a closed
        loop are what the slices before leave over."""
        network, count = self.network, len(self.network.config.slices)
        parts = y.split(network.config.slices[: count - network.closed_loop], 1)
        base = []

        def latents(y_hats: list[Tensor]) -> Tensor:
            if len(y_hats) < len(parts):
                return parts[len(y_hats)]
            if len(y_hats) < count:
                base.append(network.base_synthesis(torch.cat(y_hats, 1).float(), q))
                return network.skip_latents(x, base[0], q)
            return network.block_means(x, network.add_skip(base[0], y_hats[-1].float(), q), q)

        return latents

    def _fed_back(self, x: Tensor, coded: _Coded, quality: float, prior: EntropyModel) -> _Coded:
        """`coded`, or the picture coded anew with its block means corrected, whichever has the lower λ·D + R."""
        config = self.network.config
        weight = config.lambda_of(quality) / METRICS[config.metric]
        q = self._conditioning(quality)
        height, width = x.shape[-2:]

        def shown(coded: _Coded) -> Tensor:
            return feedback.rounded(self.network.synthesis(coded.y_hat, q))

        def cost(coded: _Coded, x_hat: Tensor) -> float:
            return feedback.cost(x, x_hat[..., :height, :width], weight, len(coded.z) + len(coded.y))

        padded = pad_to_multiple(x, config.stride)
        x_hat = shown(coded)
        error = feedback.block_error(padded, x_hat)
        plain = cost(coded, x_hat)
        if feedback.possible_gain(error, weight) < feedback.WORTH * plain:
            return coded
        second = self._coded(feedback.corrected(padded, error), quality, prior)
        return second if cost(second, shown(second)) < plain else coded

    def decode(self, data: bytes) -> Image.Image:
        """The picture of a `.dcae` file, mode "RGB" or "L".

        Raises:
            FileFormatError: damaged, truncated, too large, or not a `.dcae` file.
            SymbolMismatchError: intact, but this machine's arithmetic differs from the encoder's.
            ModelNotFoundError: written with another model than the one loaded.
            DCAEError: a process that cannot code (forked off, or with another rounding mode).
        """
        with self._coding():
            latents = self._decode_latents(data)
            header = latents.header
            q = self._conditioning(header.quality / QUALITY_STEPS)
            x_hat = self.network.synthesis(latents.y_hat, q)
            if latents.means is not None:
                x_hat = self.network.add_means(x_hat, latents.means, q)
            x_hat = x_hat[0, :, : header.height, : header.width].float()
            pixels = (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return from_pixels(pixels, COLOURS[header.colour])

    def decode_latents(self, data: bytes) -> Latents:
        """What a `.dcae` file holds, verified, before the synthesis makes a picture of it; raises as `decode`."""
        with self._coding():
            return self._decode_latents(data)

    @contextmanager
    def _coding(self) -> Iterator[None]:
        """What every coding happens within, whatever the caller has set: no gradients, no autocast, arithmetic that
        can be trusted."""
        with torch.inference_mode(), torch.autocast(torch.device(self.device).type, enabled=False):
            check_process()
            yield

    def _conditioning(self, quality: float) -> Any:
        """Of the transforms; a tensor, since a number would become one of torch's default type and device."""
        return self.network.conditioning(torch.tensor([quality], dtype=torch.float32, device="cpu"))

    def _decode_latents(self, data: bytes) -> Latents:
        container = read_container(data)
        header = container.header
        self._check_header(header)
        stride = self.network.config.stride
        rows, columns = -(-header.height // stride), -(-header.width // stride)
        shape = torch.Size((1, self.network.config.hyper_channels, rows, columns))
        self._check_lengths(container, rows * columns)
        prior = self._prior(NUMERICS[header.numerics])

        check = _Check()
        z_decoder = SymbolDecoder(self._tables_z, container.z, "z")
        z_symbols = z_decoder.decode(_channel_rows(shape))
        z_decoder.finish()  # before the networks run: no arithmetic has had a say so far
        z_decoder.check_length()
        check.add(z_symbols)
        y_decoder = SymbolDecoder(self._tables_y, container.y, "y")
        y_symbols = []

        def code(mean: Tensor, rows: NDArray[np.uint8], y_hats: list[Tensor]) -> NDArray[np.int32]:
            y_symbols.append(y_decoder.decode(rows))
            y_decoder.check_length()  # before the networks run for the next slice
            return y_symbols[-1]

        try:
            y_hat, means = self._walk(prior, z_symbols, shape, header.quality / QUALITY_STEPS, code, check)
            y_decoder.finish()
            if check.value != header.check:
                raise SymbolMismatchError("the decoded symbols differ from those that were encoded")
        except FileFormatError as error:
            # The sections passed their CRC, so that the usual cause is arithmetic, not damage.
            if prior.numerics == "integer":
                raise SymbolMismatchError(
                    f"the sections are intact, but do not belong together ({error}); the file was put together or "
                    "altered by a program, encode the picture again"
                ) from error
            cure = "decode it on the kind of machine and device that wrote it"
            if prior.numerics == "float32":
                cure += ", or encode the picture again with --portable"
            raise SymbolMismatchError(
                f"the file is intact, but this machine's floating-point arithmetic ({prior.numerics}, {self.device}) "
                f"does not reproduce the encoder's symbols ({error}); {cure}"
            ) from error
        return Latents(header, z_symbols, y_symbols, y_hat, means)

    def _prior(self, numerics: str) -> EntropyModel:
        """The entropy model in an arithmetic that files name.

        Raises:
            FileFormatError: the preset does not have it.
        """
        if numerics not in self._priors:
            if numerics != "float64" or self.prior.numerics != "float32":
                raise FileFormatError(
                    f"the file's numerics are {numerics}, which models of {self.network.config.preset} do not have; "
                    "the file is damaged"
                )
            self._priors[numerics] = PortableEntropyModel(self.network)
        return self._priors[numerics]

    def _walk(
        self,
        prior: EntropyModel,
        z_symbols: NDArray[np.int32],
        z_shape: torch.Size,
        quality: float,
        code: Callable[[Tensor, NDArray[np.uint8], list[Tensor]], NDArray[np.int32]],
        check: _Check,
    ) -> tuple[Tensor, Tensor | None]:
        """ŷ, slice by slice, and the block means of a closed loop; `code` writes or reads the symbols of one slice
        given its means, its table rows and the slices before."""
        grid = self.network.latent_grid
        y_hats: list[Tensor] = []
        with prior.arithmetic():
            q = prior.conditioning(quality)
            z_hat = torch.from_numpy(z_symbols.reshape(tuple(z_shape))).to(self.device).float() + self.model.z_median
            context = prior.hyper_synthesis(z_hat, q)
            for k in range(len(self.network.config.slices)):
                mean, scale, support = prior.slice_prior(k, context, q)
                rows = prior.scale_index(scale).to(torch.uint8).cpu().contiguous().numpy().reshape(-1)
                symbols = code(mean, rows, y_hats)
                y_hat = torch.from_numpy(symbols.reshape(tuple(mean.shape))).to(self.device).float() + mean
                y_hat = prior.latent_residual(k, support, y_hat, q)
                check.add(symbols)
                if grid:
                    check.add(_symbols(y_hat * grid))
                y_hats.append(y_hat)
                if k + 1 < len(self.network.config.slices):
                    context = prior.extend_context(k, context, support, y_hat, q)
            means = None
            if self.network.closed_loop:
                mean = torch.zeros(1, 3, *z_shape[2:], dtype=torch.float32, device=self.device)
                index = prior.scale_index(prior.means_scale(q)).expand(mean.shape)
                symbols = code(mean, index.to(torch.uint8).cpu().contiguous().numpy().reshape(-1), y_hats)
                check.add(symbols)
                means = torch.from_numpy(symbols.reshape(tuple(mean.shape))).to(self.device).float()
        return torch.cat(y_hats, 1).float(), means

    def _check_header(self, header: Header) -> None:
        if header.model != self.model.header.short_id:
            raise ModelNotFoundError(
                f"the file was written with model {header.model.hex()}, loaded is "
                f"{self.model.header.short_id.hex()}; pass the right one with --model"
            )
        check_size(header.width, header.height, self.network.config.stride, self.max_pixels, FileFormatError)
        try:
            self.network.config.lambda_of(header.quality / QUALITY_STEPS)
        except OptionError as error:
            raise FileFormatError(f"the file's {error}") from error

    def _check_lengths(self, container: Container, samples: int) -> None:
        """Refuse streams that no encoder can have written for a picture of `samples` positions of z, however cheap
        its symbols: a file of a few bytes shall not make the networks run on a picture of gigabytes."""
        config = self.network.config
        y_samples = (
            samples * config.latent_channels * (config.stride // 16) ** 2 + 3 * samples * self.network.closed_loop
        )
        least_z, least_y = samples * self._tables_z.least_bits().sum(), y_samples * self._tables_y.least_bits().min()
        for name, stream, least in (("z", container.z, least_z), ("y", container.y, least_y)):
            if 8 * len(stream) < least * (1 - 1e-9):
                raise FileFormatError(
                    f"section {name} has {len(stream)} bytes, too few for the declared "
                    f"{container.header.width}x{container.header.height} pixels; the file is damaged"
                )


class _Coded(NamedTuple):
    """A picture as the sections of a file, and what they decode to."""

    z: bytes
    y: bytes
    check: int
    """Check value over all symbols, see :class:`_Check`."""
    y_hat: Tensor


class Latents(NamedTuple):
    """What a file holds."""

    header: Header
    z: NDArray[np.int32]
    """Symbols of z, (N * H/64 * W/64,), channel by channel."""
    y: list[NDArray[np.int32]]
    """Symbols of every slice of y, (C_k * H/16 * W/16,) likewise, and of a closed loop's block means
    (3 * H/64 * W/64,)."""
    y_hat: Tensor
    """(1, M, H/16, W/16), for the synthesis."""
    means: Tensor | None
    """(1, 3, H/64, W/64) block means of a closed loop, in steps."""


class _Check:
    """CRC-32 over everything that was decoded, int32 little endian, in coding order."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, symbols: NDArray[np.int32]) -> None:
        self.value = zlib.crc32(symbols.astype("<i4").tobytes(), self.value)


def _symbols(values: Tensor) -> NDArray[np.int32]:
    return values.round().clamp(-(2**30), 2**30).to(torch.int32).cpu().contiguous().numpy().reshape(-1)


def _channel_rows(shape: torch.Size) -> NDArray[np.uint16]:
    """The table row of every z symbol: its channel."""
    return np.repeat(np.arange(shape[1], dtype=np.uint16), shape[2] * shape[3])
