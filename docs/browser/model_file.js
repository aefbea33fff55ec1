// The card in a model.onnx. onnxruntime-web does not show a file's metadata, and a protobuf's outer
// fields are soon read: each is a number that says field and kind, then its value or its length.

const CARD_KEY = "isoserve.card";
const METADATA_PROPS = 14; // of ModelProto
const KEY = 1; // of StringStringEntryProto
const VALUE = 2;
const OUTPUTS = {
  1: ["probabilities", "entropic_score", "p_value", "class_p_value"],
  2: ["probabilities", "ood_score", "p_value", "class_p_value"],
};

/** The card of a model file's bytes; an Error says why there is none. */
export function readCard(bytes) {
  let text;
  try {
    text = metadata(bytes).get(CARD_KEY);
  } catch (error) {
    if (error instanceof RangeError) throw new Error("the file is no ONNX model, or not whole");
    throw error;
  }
  if (text === undefined) throw new Error(`no '${CARD_KEY}' in its metadata: not an Isoserve model`);
  let card;
  try {
    card = JSON.parse(text);
  } catch {
    throw new Error("its model card is no JSON");
  }
  check(card);
  return card;
}

/** The names of the outputs that a verdict is made of. */
export const outputsOf = (card) => OUTPUTS[card.schema_version ?? 1];

function check(card) {
  if (!outputsOf(card)) {
    throw new Error(`its card has schema_version ${card.schema_version}; this page reads 1 and 2`);
  }
  const { input, classes, calibration } = card;
  if (!(input?.height > 0 && input.width > 0 && classes?.length > 1 && calibration?.alpha > 0)) {
    throw new Error("its card names no input size, classes or calibration");
  }
  if ((input.resize ?? "fit-bicubic") !== "fit-bicubic") {
    throw new Error(`its card has the resize rule '${input.resize}'; this page has 'fit-bicubic'`);
  }
}

function metadata(bytes) {
  const decoder = new TextDecoder();
  const found = new Map();
  for (const [field, entry] of fields(bytes)) {
    if (field !== METADATA_PROPS || !(entry instanceof Uint8Array)) continue;
    const parts = new Map(fields(entry));
    found.set(decoder.decode(parts.get(KEY)), decoder.decode(parts.get(VALUE)));
  }
  return found;
}

/** [field, value] of each field of a protobuf message; a value is its bytes where it has a length. */
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const number = () => {
    // Not by shifts: a length may have more than 31 bits.
    for (let value = 0, factor = 1; ; factor *= 128) {
      const byte = view.getUint8(at++);
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.byteLength) {
    const tag = number();
    const field = Math.floor(tag / 8);
    const kind = tag % 8;
    if (kind === 0) {
      yield [field, number()];
    } else if (kind === 2) {
      const length = number();
      if (length > bytes.byteLength - at) throw new RangeError("a field is longer than the file");
      yield [field, bytes.subarray(at, at + length)];
      at += length;
    } else if (kind === 1 || kind === 5) {
      at += kind === 1 ? 8 : 4;
    } else {
      throw new RangeError(`no such kind of field: ${kind}`);
    }
  }
}
