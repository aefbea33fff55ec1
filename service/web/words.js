// Numbers and verdicts in words.

/** A share in percent, as a person would say it: "0.3 %", "41 %", "less than 0.1 %". */
export function percent(share) {
  if (share > 0 && share < 0.001) return "less than 0.1 %";
  if (share < 1 && share > 0.999) return "more than 99.9 %";
  const value = share * 100;
  const digits = value < 9.95 || value > 99 ? 1 : 0;
  return `${value.toFixed(digits).replace(/\.0$/, "")} %`;
}

export const whole = (number) => number.toLocaleString("en-US");

export const plural = (number, noun, several = `${noun}s`) =>
  `${whole(number)} ${number === 1 ? noun : several}`;

/** The server's comparison: both sides as float32. */
export const isUnknown = (pValue, alpha) => Math.fround(pValue) <= Math.fround(alpha);

/** The p-value that the operator decides on. */
export const decidingPValue = (ood) => ood[ood.decided_by ?? "p_value"];

/** Why an image is unknown: what speaks most against it, and which classes are nearest. */
export function whyInWords({ explanation }) {
  const [first, second] = explanation.nearest.map(({ label }) => `“${label}”`);
  return `Why: it is ${explanation.why}. The nearest prototypes are ${first} and ${second}.`;
}

/** {unknown, headline, detail} of a verdict at alpha; calibration is the card's. */
export function inWords(verdict, alpha, calibration) {
  const { label, probability } = verdict.prediction;
  const p = decidingPValue(verdict.ood);
  if (isUnknown(p, alpha)) {
    const none = p * (calibration.n + 1) < 1.5;
    const rare = none
      ? `not one of the ${whole(calibration.n)} known images it was calibrated on scores this low.`
      : `only ${percent(p)} of known images score this low.`;
    return {
      unknown: true,
      headline: "I don’t know this.",
      detail: `This looks like nothing the model was trained on: ${rare} `
        + `If it had to be one of its classes, “${label}” would be the guess.`,
    };
  }
  return {
    unknown: false,
    headline: `This is known: ${label}.`,
    detail: `${percent(p)} of known images score this low or lower, so it looks like what the `
      + `model was trained on; among its classes it is ${percent(probability)} sure.`,
  };
}
