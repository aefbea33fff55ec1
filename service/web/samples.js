// Pictures that this page draws, some like photographs, some like nothing a classifier was shown.

const SIDE = 128;

/** [{name, draw}]: draw paints on a 2d context of SIDE x SIDE. */
export const SAMPLES = [
  { name: "T-shirt", draw: tshirt },
  { name: "pants", draw: pants },
  { name: "dress", draw: dress },
  { name: "ship at sea", draw: ship },
  { name: "airplane", draw: airplane },
  { name: "car on a road", draw: car },
  { name: "bird on a branch", draw: bird },
  { name: "written seven", draw: seven },
  { name: "squares", draw: checkerboard },
  { name: "noise", draw: noise },
  { name: "fog", draw: fog },
];

export function canvasOf(sample) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  sample.draw(canvas.getContext("2d"));
  return canvas;
}

/** The sample as a PNG file, as if a person had chosen it. */
export function fileOf(canvas, sample) {
  return new Promise((resolve) => {
    canvas.toBlob((blob) => {
      resolve(new File([blob], `${sample.name.replaceAll(" ", "-")}.png`, { type: "image/png" }));
    }, "image/png");
  });
}

function tshirt(c) {
  gradient(c, ["#efece6", "#d8d2c7"], 0, SIDE);
  cloth(c, "#2f5f8f", [[46, 20], [54, 25], [74, 25], [82, 20], [112, 38], [102, 58], [90, 52], [92, 114], [36, 114], [38, 52], [26, 58], [16, 38]]);
  shape(c, "#27507a", [[46, 20], [54, 25], [74, 25], [82, 20], [74, 31], [64, 33], [54, 31]]);
  lines(c, "#244a70", 1.5, [[42, 60, 50, 84], [86, 62, 76, 90], [60, 44, 58, 70], [50, 96, 70, 108], [38, 52, 42, 64], [90, 52, 86, 64]]);
  grain(c, 8, 7);
}

function pants(c) {
  gradient(c, ["#e6e2da", "#d2ccc0"], 0, SIDE);
  cloth(c, "#2b3a55", [[42, 10], [88, 10], [96, 122], [72, 122], [66, 46], [62, 46], [56, 122], [32, 122]]);
  shape(c, "#22304a", [[42, 10], [88, 10], [88.5, 16], [41.5, 16]]);
  lines(c, "#1d2940", 1.5, [[65, 16, 64, 46], [48, 20, 44, 28], [84, 20, 88, 28], [50, 40, 44, 116], [80, 40, 86, 116]]);
  grain(c, 8, 8);
}

function dress(c) {
  gradient(c, ["#efece6", "#d8d2c7"], 0, SIDE);
  cloth(c, "#a03048", [[50, 10], [54, 22], [74, 22], [78, 10], [84, 14], [82, 50], [104, 118], [24, 118], [46, 50], [44, 14]]);
  lines(c, "#7d2237", 1.5, [[46, 50, 82, 50], [54, 54, 42, 116], [64, 54, 64, 116], [74, 54, 86, 116]]);
  grain(c, 8, 11);
}

function ship(c) {
  gradient(c, ["#8fb4d8", "#d5e3ee"], 0, 80);
  gradient(c, ["#31597a", "#1d3a52"], 76, 52);
  ripples(c, 80);
  shape(c, "#7a2f2a", [[14, 74], [112, 70], [102, 92], [26, 92]]);
  shape(c, "#3a3f47", [[14, 74], [112, 70], [111, 75], [15, 79]]);
  shape(c, "#eceae4", [[38, 50], [86, 48], [88, 72], [36, 73]]);
  shape(c, "#d8d4ca", [[50, 38], [76, 37], [77, 50], [49, 51]]);
  shape(c, "#b1442f", [[58, 22], [68, 22], [69, 38], [57, 38]]);
  c.fillStyle = "#44586b";
  for (let x = 42; x < 84; x += 8) c.fillRect(x, 56, 4, 4);
  grain(c, 10, 1);
}

function airplane(c) {
  gradient(c, ["#5f97cf", "#b9d6ec"], 0, SIDE);
  cloud(c, 26, 96, 18);
  cloud(c, 100, 30, 14);
  shape(c, "#8d99a6", [[60, 66], [86, 102], [98, 100], [80, 62]]);
  shape(c, "#e9edf1", [[8, 70], [18, 60], [98, 50], [118, 52], [112, 60], [30, 74], [14, 76]]);
  shape(c, "#c9d0d8", [[8, 70], [112, 60], [30, 74], [14, 76]]);
  shape(c, "#aab4bf", [[66, 56], [50, 34], [58, 34], [82, 54]]);
  shape(c, "#2f5e95", [[98, 51], [108, 28], [117, 28], [116, 52]]);
  shape(c, "#aab4bf", [[102, 57], [116, 66], [123, 65], [113, 55]]);
  grain(c, 8, 2);
}

function car(c) {
  gradient(c, ["#a9c3d6", "#dfe6e4"], 0, 60);
  gradient(c, ["#5d7248", "#7a8660"], 54, 24);
  gradient(c, ["#6d6d70", "#4e4e52"], 74, 54);
  shape(c, "#00000055", [[12, 100], [116, 100], [110, 108], [20, 108]]);
  shape(c, "#b3261e", [[10, 82], [18, 68], [38, 64], [54, 46], [88, 46], [104, 64], [118, 70], [119, 96], [10, 96]]);
  shape(c, "#2b3b49", [[44, 64], [57, 50], [70, 50], [70, 64]]);
  shape(c, "#2b3b49", [[74, 64], [74, 50], [86, 50], [97, 64]]);
  shape(c, "#8f1c16", [[10, 86], [119, 86], [119, 96], [10, 96]]);
  for (const x of [34, 94]) {
    disc(c, "#17181a", x, 96, 12);
    disc(c, "#b9bcc0", x, 96, 6);
  }
  disc(c, "#f4e6b0", 114, 76, 3.5);
  grain(c, 10, 3);
}

function bird(c) {
  gradient(c, ["#9fb07a", "#6f8a5c"], 0, SIDE);
  for (let i = 0; i < 14; i += 1) disc(c, i % 2 ? "#86a06a55" : "#b8c69155", (i * 53) % SIDE, (i * 37) % SIDE, 16);
  shape(c, "#5a4632", [[0, 100], [128, 90], [128, 98], [0, 109]]);
  shape(c, "#6b4f35", [[30, 82], [6, 98], [14, 104], [44, 88]]);
  oval(c, "#8a6a48", 62, 70, 34, 22, -0.5);
  oval(c, "#d9b48a", 70, 77, 24, 14, -0.6);
  oval(c, "#5d4530", 50, 70, 24, 12, -0.3);
  disc(c, "#8a6a48", 88, 44, 15);
  shape(c, "#d39a2d", [[101, 40], [116, 46], [101, 50]]);
  disc(c, "#111", 92, 41, 3);
  c.fillStyle = "#4a3826";
  c.fillRect(62, 88, 3, 12);
  c.fillRect(74, 87, 3, 11);
  grain(c, 14, 4);
}

function seven(c) {
  c.fillStyle = "#000";
  c.fillRect(0, 0, SIDE, SIDE);
  c.strokeStyle = "#fff";
  c.lineWidth = 13;
  c.lineCap = c.lineJoin = "round";
  c.beginPath();
  c.moveTo(36, 34);
  c.lineTo(94, 32);
  c.quadraticCurveTo(66, 66, 56, 102);
  c.stroke();
}

function checkerboard(c) {
  for (let y = 0; y < 8; y += 1) {
    for (let x = 0; x < 8; x += 1) {
      c.fillStyle = (x + y) % 2 ? "#f2f0e9" : "#26323d";
      c.fillRect(x * 16, y * 16, 16, 16);
    }
  }
}

function noise(c) {
  const random = generator(5);
  for (let y = 0; y < SIDE; y += 4) { // coarse, or a small input would see plain gray
    for (let x = 0; x < SIDE; x += 4) {
      c.fillStyle = `rgb(${random() * 255} ${random() * 255} ${random() * 255})`;
      c.fillRect(x, y, 4, 4);
    }
  }
}

function fog(c) {
  gradient(c, ["#c9cdd1", "#b4babf"], 0, SIDE);
  grain(c, 5, 6);
}

function gradient(c, colours, top, height) {
  const fill = c.createLinearGradient(0, top, 0, top + height);
  colours.forEach((colour, place) => fill.addColorStop(place / (colours.length - 1), colour));
  c.fillStyle = fill;
  c.fillRect(0, top, SIDE, height);
}

function shape(c, colour, points) {
  c.fillStyle = colour;
  c.beginPath();
  for (const [x, y] of points) c.lineTo(x, y);
  c.closePath();
  c.fill();
}

/** A piece of cloth and the shadow that it throws. */
function cloth(c, colour, points) {
  shape(c, "#00000050", points.map(([x, y]) => [x + 2, y + 3]));
  shape(c, colour, points);
}

function lines(c, colour, width, ends) {
  c.strokeStyle = colour;
  c.lineWidth = width;
  for (const [x, y, toX, toY] of ends) {
    c.beginPath();
    c.moveTo(x, y);
    c.lineTo(toX, toY);
    c.stroke();
  }
}

const disc = (c, colour, x, y, radius) => oval(c, colour, x, y, radius, radius, 0);

function oval(c, colour, x, y, width, height, angle) {
  c.fillStyle = colour;
  c.beginPath();
  c.ellipse(x, y, width, height, angle, 0, 2 * Math.PI);
  c.fill();
}

function cloud(c, x, y, size) {
  for (const [dx, dy, r] of [[-1, 0.2, 0.6], [0, 0, 0.8], [1, 0.2, 0.6]]) {
    disc(c, "#ffffffb0", x + dx * size, y + dy * size, r * size);
  }
}

function ripples(c, top) {
  const random = generator(9);
  c.fillStyle = "#ffffff22";
  for (let i = 0; i < 60; i += 1) c.fillRect(random() * SIDE, top + random() * (SIDE - top), 6 + random() * 14, 1);
}

/** Add the sensor noise that a photograph has. */
function grain(c, strength, seed) {
  const random = generator(seed);
  paint(c, (red, green, blue) => {
    const shift = (random() - 0.5) * 2 * strength;
    return [red + shift, green + shift, blue + shift];
  });
}

function paint(c, colour) {
  const picture = c.getImageData(0, 0, SIDE, SIDE);
  for (let i = 0; i < picture.data.length; i += 4) {
    const [red, green, blue] = picture.data.subarray(i, i + 3);
    picture.data.set(colour(red, green, blue), i);
    picture.data[i + 3] = 255;
  }
  c.putImageData(picture, 0, 0);
}

/** Numbers in [0, 1), the same at every visit (a linear congruential generator). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
