"""The codec: a loaded model, `encode` to bytes and `decode` back."""

from __future__ import annotations

from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dcae.codec.container import Container, read_container, write_container
from dcae.codec.effort import check_effort, check_roi
from dcae.codec.encoder import Encoder
from dcae.codec.enlarging import as_coded, enlargement_of, enlarger_of, reduced, reduced_plane, shown, upscaler_of
from dcae.codec.feedback import rounded
from dcae.codec.fields import COLOURS, DEPTHS, NUMERICS, QUALITY_STEPS, Header
from dcae.codec.latents import Decoded, LatentCoder
from dcae.codec.limits import MAX_PIXELS, check_limit, check_size
from dcae.codec.pictures.picture import Picture, Samples, gray, shallow
from dcae.codec.pictures.preparation import AS_IT_IS, Preparation
from dcae.codec.pictures.preparing import PictureSource, prepare
from dcae.codec.source import Source
from dcae.codec.sources import FileSource, as_bytes
from dcae.codec.stages import LOAD, TRANSFORM, WRITE, Observer
from dcae.codec.stored import better_stored, stored_picture, with_companions, with_pixels
from dcae.codec.tuning import tune_for
from dcae.errors import FileFormatError, ModelNotFoundError, OptionError, PictureError
from dcae.models.header import ModelHeader
from dcae.models.installed import DEFAULT_MODEL
from dcae.networks.config import DCAEConfig
from dcae.runtime.engines import open_engine
from dcae.runtime.progress import SLICE, watcher
from dcae.runtime.transforms import Transforms
from dcae.upscalers import UPSCALER, Upscaler

if TYPE_CHECKING:
    from PIL import Image

    from dcae.models.modelfile import CodingModel
    from dcae.runtime.protocol import Engine


class Codec:
    """A model kept loaded.

    Args:
        model: name of an installed model, path of a model file, or a loaded :class:`CodingModel`.
        device: torch device of the networks; the engine "onnx" has none but "cpu".
        max_pixels: largest number of pixels, padded to multiples of 64 in both directions; larger pictures are
            refused, those of files before anything is allocated. Encoding or decoding with `lite` takes at most
            256 MiB and 40 bytes per padded pixel, by default 4.5 GB.
        engine: what runs the networks: "torch", "onnx" (ONNX Runtime; decodes to the same latents, and to pixels at
            most one level apart), or "auto", "onnx" on the CPU for models that it runs, else torch.

    Threads may share a codec. Processes that are forked off after it was used with several threads may not: they
    would wait for threads that they do not have, and are refused. Start them, each with a codec of its own, by
    `multiprocessing.get_context("spawn")`.

    Raises:
        ModelNotFoundError, ModelFileError: no such model, or a damaged one.
        OptionError: a device that is not there, an engine that does not run this model, or a limit that is no
            positive integer.
        MissingDependencyError: an engine whose library is not installed.
    """

    def __init__(
        self,
        model: str | Path | CodingModel = DEFAULT_MODEL,
        device: str = "cpu",
        max_pixels: int = MAX_PIXELS,
        engine: str = "auto",
    ) -> None:
        self.max_pixels = check_limit(max_pixels)
        self.engine: Engine = open_engine(model, device, engine)
        self._coder = LatentCoder(self.engine)
        self._transforms = Transforms(self.engine, self._coder.divider)
        self._encoder = Encoder(self._coder, self._transforms)

    @property
    def header(self) -> ModelHeader:
        """Header of the model file."""
        return self.engine.header

    @property
    def config(self) -> DCAEConfig:
        """The network's configuration."""
        return self.engine.header.config

    @property
    def observe(self) -> Observer:
        """Observer that is told of the stages of encoding and decoding; none unless it is set."""
        return self._coder.observe

    @observe.setter
    def observe(self, observer: Observer) -> None:
        self._coder.observe = observer

    def encode(
        self,
        image: PictureSource,
        quality: float | None = None,
        portable: bool = False,
        correct_means: bool | None = None,
        effort: int = 0,
        fallback: bool = False,
        preparation: Preparation = AS_IT_IS,
        roi: NDArray[np.uint8] | None = None,
        tune: str | None = None,
        divisor: int = 1,
        upscaler: str = UPSCALER,
    ) -> bytes:
        """A picture as the bytes of a `.dcae` file, with its alpha and metadata.

        Args:
            image: a Pillow picture, a path, the bytes of a picture file or an open one, an array (H, W), (H, W, 1 to 4)
                of uint8 or uint16, or a prepared :class:`Picture`.
            quality: 1 (smallest file) to 8 with the default model, any number between; stored in steps of 1/256.
                By default 4, or the highest that the model has.
            portable: evaluate the entropy model in float64 unless it is exact, which `lite`'s always is; decoding
                takes longer, and is less likely to fail on other machines.
            correct_means: decode what was coded, correct its brightness and code again (see `dcae/codec/feedback.py`);
                the better of the two by λ·D + R is kept. By default where the network gains by it.
            effort: 0 to 4, how long to search for latents that take fewer bits, see `dcae/codec/effort.py`;
                :func:`dcae.encode` takes 2 by default.
            fallback: store the picture without loss where that takes no more bytes, and as AVIF where it is a drawing
                and that has less λ·D + R.
            preparation: what is made of the picture before it is coded.
            roi: (H, W), how much the squared error of each pixel counts in the search, 255 as without it; needs an
                effort.
            tune: what is lowered beside the bytes, "psnr", the squared error, or "ms-ssim", 1 - MS-SSIM, which goes
                without a roi; by default what the model was trained for, and anything else needs an effort.
            divisor: 2 codes the picture at half its size, 3 at a third, 4 at a quarter; decoding enlarges it.
            upscaler: name or path of the model that enlarges it, whose scale is this divisor.

        Raises:
            PictureError: unreadable, too large, or of a kind that is not coded.
            OptionError: a quality that the model does not cover, an effort that there is not, or a background that
                is no colour.
            DCAEError: a process that cannot code (forked off, or with another rounding mode).

        Warns:
            PictureWarning: metadata that is not kept; with `fallback`, a picture on which it does badly.
        """
        with self.engine.coding():
            with self.observe(LOAD):
                picture = prepare(image, preparation, self.max_pixels)
                check_size(picture.width, picture.height, self.config.stride, self.max_pixels, PictureError)
                enlarger = enlarger_of(divisor, upscaler)
            container = self._encode(picture, quality, portable, correct_means, effort, fallback, roi, tune, enlarger)
            with self.observe(WRITE):
                return write_container(with_companions(container, picture))

    def _encode(
        self,
        picture: Picture,
        quality: float | None,
        portable: bool,
        correct_means: bool | None,
        effort: int,
        fallback: bool,
        roi: NDArray[np.uint8] | None,
        tune: str | None,
        enlarger: Upscaler | None,
    ) -> Container:
        if quality is None:
            quality = self.config.default_quality
        if isinstance(quality, bool) or not isinstance(quality, Real):
            raise OptionError(f"quality must be a number, got {quality!r:.40}")
        self.config.lambda_of(quality)
        check_effort(effort)
        tune = tune_for(tune, effort, self.config)
        check_roi(roi, effort, picture, tune)
        steps = round(quality * QUALITY_STEPS)
        quality = steps / QUALITY_STEPS
        numerics = "float64" if portable and "float64" in self.engine.numerics else self.engine.numerics[0]

        source = whole = Source(picture.pixels, self.config.stride, weights=roi)
        enlargement = None
        if enlarger:
            enlargement = enlargement_of(picture, enlarger)
            roi = None if roi is None else shallow(reduced_plane(roi, enlarger.scale))
            source = Source(reduced(picture.pixels, enlarger.scale), self.config.stride, weights=roi)
        feed_back = self.engine.corrects_means if correct_means is None else correct_means
        encoded = self._encoder.encode(source, quality, numerics, feed_back, effort, fallback, tune)
        if enlarger:  # at the size that is shown, but for what enlarging adds
            area = enlarger.scale**2
            encoded = encoded._replace(squared=encoded.squared * area, lost=encoded.lost * area)
        coded = encoded.sections
        if fallback:
            look = partial(self._encoder.look, whole, quality=quality, tune=tune)
            if stored := better_stored(picture, steps, encoded, self.config.mse_lambda_of(quality), tune, look):
                return stored
        header = Header(
            width=source.pixels.shape[1],
            height=source.pixels.shape[0],
            colour=COLOURS.index(picture.mode),
            numerics=NUMERICS.index(numerics),
            quality=steps,
            model=self.header.short_id,
            check=coded.check,
            depth=DEPTHS.index(picture.depth),
        )
        return Container(header, coded.z, coded.y, enlargement=enlargement)

    def decode(self, file: FileSource, native: bool = False) -> Image.Image:
        """The picture of a `.dcae` file for Pillow: mode "RGB", "RGBA", "L" or "LA", metadata in its `info`.

        Of 16 bits only gray without alpha comes back whole, as "I;16"; `decode_picture` keeps the others too.

        Args:
            file: path, bytes or file object.
            native: of a picture that was coded small, leave it as small as it is.

        Raises:
            FileFormatError: damaged, truncated, too large, or not a `.dcae` file.
            SymbolMismatchError: intact, but this machine's arithmetic differs from the encoder's.
            ModelNotFoundError: written with another model than the one loaded, or enlarged by one that is not
                installed.
            DCAEError: a process that cannot code (forked off, or with another rounding mode).
        """
        return self.decode_picture(file, native).image()

    def decode_picture(self, file: FileSource, native: bool = False) -> Picture:
        """The picture of a `.dcae` file as arrays, with its alpha and metadata; arguments and errors as of `decode`."""
        data = as_bytes(file)
        container = read_container(data)
        if container.stored:
            return stored_picture(container, self.max_pixels)
        check_size(*container.size, self.config.stride, self.max_pixels, FileFormatError)
        enlargement = None if native else container.enlargement
        enlarger = upscaler_of(enlargement) if enlargement else None  # before any work
        watcher().begin(container.header.width * container.header.height)
        with self.engine.coding():
            header, latents = self._decode_latents(data, symbols=False)
            with self.observe(TRANSFORM):
                pixels = self._synthesis(header, latents)
                del latents
                if enlargement and enlarger:
                    pixels = shown(pixels, enlargement, enlarger)
        picture = with_pixels(container, pixels)
        return as_coded(picture, container) if native else picture

    def _synthesis(self, header: Header, latents: Decoded) -> Samples:
        """(H, W, C) of the coded picture."""
        depth, mode = DEPTHS[header.depth], COLOURS[header.colour]
        shape = (header.height, header.width, 3 if mode == "RGB" else 1)
        pixels = np.empty(shape, np.uint8) if depth == 8 else np.empty(shape, np.uint16)
        quality = header.quality / QUALITY_STEPS
        for row, column, part in self._transforms.synthesis(latents.y_hat, latents.means, quality):
            part = part[..., : max(header.height - row, 0), : max(header.width - column, 0)]
            seen = rounded(part, depth) if mode == "RGB" else gray(rounded(part, depth))
            pixels[row : row + len(seen), column : column + seen.shape[1]] = seen
        return pixels

    def decode_latents(self, file: FileSource) -> Decoded:
        """Latents of a `.dcae` file, verified, before the synthesis makes a picture of them.

        Raises:
            FileFormatError: as of `decode`, and for a file that is stored without latents.
        """
        with self.engine.coding():
            return self._decode_latents(as_bytes(file))[1]

    def _decode_latents(self, data: bytes, symbols: bool = True) -> tuple[Header, Decoded]:
        """Header and latents; without symbols of y, and a synthesis is to follow, if `symbols` is false."""
        with self.observe(LOAD):
            container = read_container(data)
        if container.stored:
            raise FileFormatError(f"the file holds its picture {container.stored} and has no latents")
        header = container.header
        self._check_header(header)
        stride = self.config.stride
        rows, columns = -(-header.height // stride), -(-header.width // stride)
        self._check_lengths(container, rows * columns)
        pixels = rows * columns * stride**2
        watcher().expect(SLICE, len(self.config.slices) * pixels)
        watcher().expect("base_synthesis", 0 if symbols else pixels)
        numerics = NUMERICS[header.numerics]
        if numerics not in self.engine.numerics:
            raise FileFormatError(
                f"the file's numerics are {numerics}, which models of {self.config.preset} do not have; "
                "the file is damaged"
            )
        shape = (1, self.config.hyper_channels, rows, columns)
        quality = header.quality / QUALITY_STEPS
        return header, self._coder.decode(container.z, container.y, header.check, shape, quality, numerics, symbols)

    def _check_header(self, header: Header) -> None:
        if header.model != self.header.short_id:
            raise ModelNotFoundError(
                f"the file was written with model {header.model.hex()}, loaded is {self.header.short_id.hex()}",
                "pass the right one with --model",
            )
        check_size(header.width, header.height, self.config.stride, self.max_pixels, FileFormatError)
        try:
            self.config.lambda_of(header.quality / QUALITY_STEPS)
        except OptionError as error:
            raise FileFormatError(f"the file's {error}") from error

    def _check_lengths(self, container: Container, samples: int) -> None:
        """Refuse streams that no encoder can have written for a picture of `samples` positions of z, however cheap
        its symbols: a file of a few bytes shall not make the networks run on a picture of gigabytes."""
        config = self.config
        y_samples = samples * config.latent_channels * (config.stride // 16) ** 2
        y_samples += 3 * samples * self.engine.closed_loop
        least_z = samples * self._coder.least_bits_z()
        least_y = y_samples * self._coder.tables_y.least_bits().min()
        for name, stream, least in (("z", container.z, least_z), ("y", container.y, least_y)):
            if 8 * len(stream) < least * (1 - 1e-9):
                raise FileFormatError(
                    f"section {name} has {len(stream)} bytes, too few for the declared "
                    f"{container.header.width}x{container.header.height} pixels; the file is damaged"
                )
