// A model for browsers, as `dcae export-web` writes it (see serve/web_model.py), and ONNX Runtime, which runs its
// graphs.

import { DCAEError, ModelFileError, sayingMemory } from "./errors.js";
import { SymbolTables } from "./range-coder.js";

const FORMAT = 2;
const ARRAYS = {
  int8: Int8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array, float64: Float64Array,
}; // prettier-ignore

/** A file that is fetched whole. */
export async function fetched(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new DCAEError(`${url}: cannot be loaded (${error.message})`, { cause: error });
  }
  if (!response.ok) {
    const error = new DCAEError(`${url}: cannot be loaded (HTTP ${response.status})`);
    throw Object.assign(error, { status: response.status });
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** ONNX Runtime's module, given or from the URL of `ort.wasm.bundle.min.mjs`, whose .wasm lies beside it. */
export async function loadRuntime(runtime, threads) {
  let ort = runtime;
  if (typeof runtime === "string") {
    try {
      ort = await import(runtime);
    } catch (error) {
      throw new DCAEError(`${runtime}: ONNX Runtime cannot be loaded (${error.message})`, { cause: error });
    }
    ort.env.wasm.wasmPaths ??= { wasm: new URL("ort-wasm-simd-threaded.wasm", runtime).href };
  }
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  return ort;
}

export class Model {
  /**
   * @param {Uint8Array} bytes a file of `dcae export-web`, or what it expands to
   * @returns {Promise<Model>}
   * @throws {ModelFileError} it is none
   */
  static async read(bytes, ort) {
    try {
      return new Model(await expanded(bytes), ort);
    } catch (error) {
      if (error instanceof DCAEError) throw error;
      throw new ModelFileError(`not a readable model for browsers (${error.message})`, { cause: error });
    }
  }

  constructor(bytes, ort) {
    this.ort = ort;
    const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    this.entries = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    this.data = bytes.subarray(8 + length);
    const end = Math.max(...Object.values(this.entries).map((entry) => entry.data_offsets?.[1] ?? 0));
    if (end !== this.data.length) throw new ModelFileError("the model is cut short; export it again");
    const about = JSON.parse(this.entries.__metadata__["dcae-web"]);
    if (about.format !== FORMAT) {
      throw new ModelFileError(`model format ${about.format}, this decoder reads ${FORMAT}; export the model again`);
    }
    /** First 8 bytes of the model id in hexadecimal, as files name it. */
    this.id = about.id.slice(0, 16);
    this.config = about.config;
    this.division = about.division;
    this.graphs = about.graphs;
    this.tables = Object.fromEntries(Object.entries(about.tables).map(([name, array]) => [name, this.array(array)]));
    this.width = Object.fromEntries(Object.entries(about.tables).map(([name, { shape }]) => [name, shape[1] ?? 1]));
    const rows = (which) => ["frequencies", "lengths", "offsets"].map((part) => this.tables[`${which}.${part}`]);
    this.tablesY = new SymbolTables(...rows("y"));
    this.tablesZ = new SymbolTables(...rows("z"));
    this.sessions = new Map();
  }

  get closedLoop() {
    return this.config.skip_channels > 0;
  }

  /** A table over the anchors (anchors, n) at a quality between them (1 is the first): Float32Array (n). */
  interpolated(name, quality) {
    const table = this.tables[name];
    const width = this.width[name];
    const low = Math.max(Math.min(Math.floor(quality) - 1, this.config.anchors - 2), 0);
    const high = Math.min(low + 1, this.config.anchors - 1);
    const part = quality - 1 - low;
    return Float32Array.from({ length: width }, (_, i) => {
      const [below, above] = [table[low * width + i], table[high * width + i]];
      return part ? below * (1 - part) + above * part : below;
    });
  }

  /**
   * Run a graph.
   *
   * @param {Object} inputs name -> [typed array, sizes of the dimensions]
   * @returns {Promise<Object>} name -> the same of the outputs
   */
  async run(name, inputs) {
    if (!this.sessions.has(name)) this.sessions.set(name, this.load(name));
    try {
      const session = await this.sessions.get(name);
      const feeds = {};
      for (const [input, [data, dims]] of Object.entries(inputs)) {
        feeds[input] = new this.ort.Tensor(TYPES.get(data.constructor), data, dims);
      }
      const outputs = {};
      for (const [output, tensor] of Object.entries(await session.run(feeds))) {
        outputs[output.replace(/^out\./, "")] = [tensor.data, tensor.dims];
      }
      return outputs;
    } catch (error) {
      throw sayingMemory(error);
    }
  }

  /** Names of the inputs of a graph. */
  async inputs(name) {
    if (!this.sessions.has(name)) this.sessions.set(name, this.load(name));
    return (await this.sessions.get(name)).inputNames;
  }

  load(name) {
    const { graph, weights } = this.graphs[name];
    const arrays = weights.map((array) => this.array(array));
    const all = new Uint8Array(arrays.reduce((sum, array) => sum + array.byteLength, 0));
    let at = 0;
    for (const array of arrays) {
      all.set(new Uint8Array(array.buffer), at);
      at += array.byteLength;
    }
    return this.ort.InferenceSession.create(this.tensor(graph), {
      executionProviders: ["wasm"],
      externalData: [{ path: "model", data: all }],
      graphOptimizationLevel: "basic", // in WebAssembly nothing is faster by more
      enableMemPattern: false, // bands have several sizes
    });
  }

  /** Bytes of a tensor of the file. */
  tensor(name) {
    return this.data.subarray(...this.entries[name].data_offsets);
  }

  /** Numbers of an array (see serve/web_model.py) in a typed array of its own. */
  array({ data, shape, type, stored, exponents, grid }) {
    const numbers = unplaned(this.tensor(data), stored);
    if (numbers.length !== shape.reduce((product, size) => product * size, 1)) throw new Error("an odd shape");
    if (!exponents) return type === stored ? numbers : ARRAYS[type].from(numbers);
    const powers = Float64Array.from(new Int8Array(this.tensor(exponents).slice().buffer), (power) => 2 ** power);
    const [, middle, last] = grid;
    const found = new ARRAYS[type](numbers.length);
    for (let row = 0, i = 0; i < found.length; row++) {
      const begin = Math.floor(row / middle) * last;
      for (let k = 0; k < last; k++, i++) found[i] = numbers[i] * powers[begin + k];
    }
    return found;
  }
}

const TYPES = new Map([
  [Float32Array, "float32"], [Float64Array, "float64"], [BigInt64Array, "int64"], [Uint8Array, "uint8"],
]); // prettier-ignore

/** Numbers whose bytes lie as planes. */
function unplaned(planes, stored) {
  const size = stored === "float16" ? 2 : ARRAYS[stored].BYTES_PER_ELEMENT;
  const count = planes.length / size;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < size; plane++) {
    for (let i = 0; i < count; i++) bytes[i * size + plane] = planes[plane * count + i];
  }
  return stored === "float16" ? fromHalves(new Uint16Array(bytes.buffer)) : new ARRAYS[stored](bytes.buffer);
}

/** Numbers of IEEE 754 binary16, by a table of all there are. */
function fromHalves(halves) {
  HALVES ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => fromHalf(bits));
  const found = new Float32Array(halves.length);
  for (let i = 0; i < found.length; i++) found[i] = HALVES[halves[i]];
  return found;
}

let HALVES;

/** The number that 16 bits are in IEEE 754 binary16. */
function fromHalf(bits) {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const sign = bits & 32768 ? -1 : 1;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + mantissa) * 2 ** (exponent - 25) : mantissa * 2 ** -24);
}

/** What a gzip stream expands to; other bytes as they are (a server may have expanded them). */
async function expanded(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
