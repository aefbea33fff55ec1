// A model.onnx in onnxruntime-web: pixels in, verdict out.

import { outputsOf, readCard } from "./model_file.js";
import { withoutAlpha } from "./pixels.js";

const RUNTIMES = [
  "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs", // as npm puts it
  "./onnxruntime-web/ort.wasm.min.mjs", // or a copy of its dist/
];
const INPUT = "images";

export class Model {
  #runtime;
  #session;

  constructor(runtime, session, card) {
    this.#runtime = runtime;
    this.#session = session;
    this.card = card;
  }

  /** Of a model file's bytes. */
  static async read(bytes) {
    const card = readCard(bytes);
    const runtime = await runtimeBesideThisPage();
    // More threads need response headers that a plain file server does not send.
    runtime.env.wasm.numThreads = 1;
    const session = await runtime.InferenceSession.create(bytes);
    const absent = outputsOf(card).filter((name) => !session.outputNames.includes(name));
    if (absent.length || !session.inputNames.includes(INPUT)) {
      throw new Error(`it has not the outputs of its card: ${absent.join(", ") || INPUT}`);
    }
    return new Model(runtime, session, card);
  }

  /** The verdict on RGBA pixels of the input's size, with the names that the server gives. */
  async judge(pixels) {
    const shape = [1, pixels.height, pixels.width, 3];
    const images = new this.#runtime.Tensor("uint8", withoutAlpha(pixels), shape);
    const names = outputsOf(this.card);
    const found = await this.#session.run({ [INPUT]: images }, names);
    const [probabilities, score, pValue, classPValue] = names.map((name) => found[name].data);
    const index = probabilities.indexOf(Math.max(...probabilities));
    const { alpha } = this.card.calibration;
    return {
      prediction: { label: this.card.classes[index], index, probability: probabilities[index] },
      ood: {
        is_ood: !(pValue[0] > Math.fround(alpha)), // NaN is out-of-distribution, too
        p_value: pValue[0],
        class_p_value: classPValue[0],
        ood_score: score[0],
        alpha,
      },
    };
  }
}

async function runtimeBesideThisPage() {
  for (const place of RUNTIMES) {
    try {
      return await import(place);
    } catch {
      // The next place may have it.
    }
  }
  throw new Error(
    "onnxruntime-web is not beside this page; in its folder: npm install onnxruntime-web",
  );
}
