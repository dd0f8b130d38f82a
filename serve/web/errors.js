// Errors of the decoder: one family, as `dcae/errors.py` has it. Messages are one sentence that says what is wrong with
// which input, and what to do about it.

/** Base of every error that the decoder raises on purpose; `name` is the class's name. */
export class DCAEError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A `.dcae` file is damaged, truncated, foreign or asks for something this version does not know. */
export class FileFormatError extends DCAEError {}

/** The file is intact, but its parts do not belong together: other symbols were decoded than were encoded. */
export class SymbolMismatchError extends FileFormatError {}

/** A model for browsers is damaged, foreign, or of another version. */
export class ModelFileError extends DCAEError {}

/** The model that a file was written with is not there. */
export class ModelNotFoundError extends DCAEError {}

/** An option or argument is outside its range. */
export class OptionError extends DCAEError {}

const FAMILY = [DCAEError, FileFormatError, SymbolMismatchError, ModelFileError, ModelNotFoundError, OptionError];

/** What of an error passes between threads: {name, message}. */
export function packedError(error) {
  return { name: String(error?.name ?? "Error"), message: String(error?.message ?? error) };
}

/** The error that `packedError` packed; one of no known name is a DCAEError, an abort stays a DOMException. */
export function unpackedError({ name, message }) {
  if (name === "AbortError" || name === "TimeoutError") return new DOMException(message, name);
  const kind = FAMILY.find((one) => one.name === name);
  return kind ? new kind(message) : new DCAEError(`${name}: ${message}`);
}

/** An error as a DCAEError where memory ran out (in JavaScript or in WebAssembly), else as it is. */
export function sayingMemory(error) {
  const said = /out of memory|allocat|bad_alloc|Array buffer|Invalid (typed )?array length/i;
  if (error instanceof DCAEError || !(error instanceof RangeError || said.test(String(error?.message ?? error)))) {
    return error;
  }
  return new DCAEError("not enough memory; a smaller picture needs less", { cause: error });
}
