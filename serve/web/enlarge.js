// Pictures that were coded small, enlarged to the size that is shown: by bicubic interpolation (Keys' kernel),
// whatever model the file names, since the package's tables are not loaded here. Python: dcae/resize.py.

/**
 * A picture enlarged.
 *
 * @param {Uint8ClampedArray} data red, green, blue and alpha of every pixel
 * @param {{width: number, height: number}} from its size
 * @param {{scale: number, width: number, height: number}} to factor and size, at most `scale` times as large
 * @returns {Uint8ClampedArray} likewise
 */
export function enlarged(data, from, to) {
  const large = new Uint8ClampedArray(4 * to.width * to.height);
  const across = taps(from.width, to.width, to.scale);
  const down = taps(from.height, to.height, to.scale);
  const row = new Float32Array(4 * from.width);
  for (let y = 0; y < to.height; y++) {
    row.fill(0);
    for (const [place, weight] of down[y]) {
      const begin = 4 * from.width * place;
      for (let i = 0; i < row.length; i++) row[i] += weight * data[begin + i];
    }
    for (let x = 0, at = 4 * to.width * y; x < to.width; x++, at += 4) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (const [place, weight] of across[x]) {
        red += weight * row[4 * place];
        green += weight * row[4 * place + 1];
        blue += weight * row[4 * place + 2];
      }
      large[at] = red; // which clamps and rounds
      large[at + 1] = green;
      large[at + 2] = blue;
      large[at + 3] = 255;
    }
  }
  return large;
}

/** For every sample of a dimension of `count` samples: [place, weight] of those of `length` that it is made of; what
 * lies outside is reflected, the edge repeated. */
function taps(length, count, scale) {
  return Array.from({ length: count }, (_, out) => {
    const centre = (out + 0.5) / scale - 0.5;
    const found = [];
    for (let place = Math.floor(centre) - 1; place <= Math.floor(centre) + 2; place++) {
      const weight = kernel(Math.abs(centre - place));
      const turned = ((place % (2 * length)) + 2 * length) % (2 * length);
      if (weight) found.push([turned < length ? turned : 2 * length - 1 - turned, weight]);
    }
    return found;
  });
}

function kernel(t) {
  if (t <= 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}
