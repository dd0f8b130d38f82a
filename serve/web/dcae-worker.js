// The decoder as a module worker; `dcae-client.js` speaks with it. Pictures are decoded one after the other, so that
// memory is that of one.
//
//   to here:   {open: options of the Decoder}, then {decode: number, file: bytes}, {abort: number}
//   from here: {number, progress}, {number, picture} or {number, error}

import { Decoder } from "./dcae.js";
import { packedError } from "./errors.js";

let options;
let decoder;
let before = Promise.resolve(); // the picture that is being decoded
const aborts = new Map();

async function decode(number, file) {
  const { signal } = aborts.get(number);
  try {
    signal.throwIfAborted();
    decoder ??= new Decoder(options); // here, where what is wrong with the options is somebody's answer
    const onProgress = (progress) => postMessage({ number, progress });
    const picture = await decoder.decode(file, { signal, onProgress });
    postMessage({ number, picture }, [picture.data.buffer]);
  } catch (error) {
    postMessage({ number, error: packedError(error) });
  } finally {
    aborts.delete(number);
  }
}

addEventListener("message", ({ data }) => {
  if (data.open) {
    options = data.open;
  } else if (data.decode !== undefined) {
    aborts.set(data.decode, new AbortController());
    before = before.then(() => decode(data.decode, data.file));
  } else {
    aborts.get(data.abort)?.abort();
  }
});
