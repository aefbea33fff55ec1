// Any image that the browser opens -> the pixels the network takes, by the card's rule "fit-bicubic":
// a centre crop to the input's aspect ratio, of which `crop` is the share kept, and an antialiased
// bicubic resize. A canvas resizes by a filter of the browser's own choice, which moves the score,
// so the filter is here: Pillow's, with its fixed-point weights, so that equal pixels give equal
// pixels.

const CHANNELS = 4; // as a canvas has them
const SUPPORT = 2; // pixels that the bicubic filter reaches to either side
const ONE = 2 ** 22; // Pillow's weights have 22 bits behind the point

/** RGBA pixels, {data, width, height}, of the input's size; transparent parts are shown on white. */
export async function pixelsOf(file, input) {
  const image = await decoded(file);
  if (image.width === input.width && image.height === input.height) return image;
  const [left, top, right, bottom] = centre(image, input);
  const rows = resized(image, weights(left, right, input.width, image.width), input.width);
  const columns = weights(top, bottom, input.height, image.height);
  return turned(resized(turned(rows), columns, input.height));
}

/** uint8 [H, W, 3] of RGBA pixels. */
export function withoutAlpha({ data, width, height }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += CHANNELS, to += 3) {
    rgb.set(data.subarray(from, from + 3), to);
  }
  return rgb;
}

async function decoded(file) {
  // Without its colour profile: training does not apply one either.
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height };
}

/** The box that is shown: left, top, right, bottom. */
function centre(image, input) {
  let { width, height } = image;
  if (width * input.height <= height * input.width) height = (width * input.height) / input.width;
  else width = (height * input.width) / input.height;
  const share = input.crop ?? 1;
  width *= share;
  height *= share;
  const left = (image.width - width) / 2;
  const top = (image.height - height) / 2;
  return [left, top, left + width, top + height];
}

/** Of each of `size` pixels made of the stretch from..to: where it begins to read, and by how much. */
function weights(from, to, size, available) {
  const scale = (to - from) / size;
  const stretch = Math.max(scale, 1); // a smaller image is smoothed first: antialiasing
  const support = SUPPORT * stretch;
  return Array.from({ length: size }, (_, place) => {
    const middle = from + (place + 0.5) * scale;
    const first = Math.max(Math.trunc(middle - support + 0.5), 0);
    const last = Math.min(Math.trunc(middle + support + 0.5), available);
    const shares = [];
    for (let at = first; at < last; at += 1) shares.push(bicubic((at - middle + 0.5) / stretch));
    const sum = shares.reduce((total, share) => total + share, 0);
    return {
      first,
      shares: shares.map((share) => Math.trunc((share / sum) * ONE + (share < 0 ? -0.5 : 0.5))),
    };
  });
}

function bicubic(distance) {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Each row brought to `width`. */
function resized(image, places, width) {
  const data = new Uint8ClampedArray(width * image.height * CHANNELS);
  for (let row = 0, to = 0; row < image.height; row += 1) {
    for (const { first, shares } of places) {
      for (let channel = 0; channel < CHANNELS; channel += 1, to += 1) {
        let sum = ONE / 2;
        let from = (row * image.width + first) * CHANNELS + channel;
        for (const share of shares) {
          sum += image.data[from] * share;
          from += CHANNELS;
        }
        data[to] = Math.floor(sum / ONE); // and clamped to 0..255 by the array
      }
    }
  }
  return { data, width, height: image.height };
}

/** Rows become columns. */
function turned({ data, width, height }) {
  const from = new Uint32Array(data.buffer);
  const to = new Uint32Array(from.length);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      to[column * height + row] = from[row * width + column];
    }
  }
  return { data: new Uint8ClampedArray(to.buffer), width: height, height: width };
}
