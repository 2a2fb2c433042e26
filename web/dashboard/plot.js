// A small line of the rate over time. Keeps as many samples as it can show, halves them when there are more. No library.

const WIDTH = 300;
const HEIGHT = 40;
const MOST = 300;

export class Plot {
  #svg;
  #line;
  #samples = [];

  constructor(svg) {
    this.#svg = svg;
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#line = svg.querySelector("polyline");
  }

  clear() {
    this.#samples = [];
  }

  /** One rate at a time (ms). */
  add(at, rate) {
    this.#samples.push({ at, rate });
    if (this.#samples.length > MOST) this.#samples = this.#samples.filter((_, place) => place % 2 === 0);
  }

  /** True where there is something to see. */
  paint() {
    const shows = this.#samples.length > 2;
    if (shows) this.#line.setAttribute("points", pointsOf(this.#samples, WIDTH, HEIGHT));
    this.#svg.toggleAttribute("hidden", !shows);
    return shows;
  }
}

/** The points of a polyline in a box of that size, time from left to right, zero at the bottom. */
export function pointsOf(samples, width, height) {
  const from = samples[0].at;
  const span = Math.max(1, samples.at(-1).at - from);
  const top = Math.max(...samples.map(({ rate }) => rate), Number.MIN_VALUE);
  const round = (value) => Math.round(value * 10) / 10;
  return samples
    .map(({ at, rate }) => `${round(((at - from) / span) * width)},${round(height - 1 - (rate / top) * (height - 2))}`)
    .join(" ");
}
