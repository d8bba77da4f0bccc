// SPDX-License-Identifier: Apache-2.0
// Panels of lines, dots and stems as one SVG that reads in light and in dark. Pure: the same panels give the same bytes.
import { type Axis, placeOn } from './axis.js';

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Which of the colours: 0..4. The same thing has the same colour in all panels. */
  readonly colour: number;
  readonly as: 'line' | 'dashes' | 'dots' | 'rings';
}

/** A stretch of the x axis that is shaded; `name` is written in the first panel. */
export interface Band {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

export interface Panel {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  readonly bands?: readonly Band[];
}

export interface Plot {
  readonly title: string;
  /** Lines below the title. */
  readonly notes: readonly string[];
  readonly columns: 1 | 2;
  readonly panels: readonly Panel[];
}

const WIDTH = 960;
const MARGIN = { left: 62, right: 18, top: 44 } as const;
/** Below a panel: marks, the name of the axis, and the legend, beside that name where there is room. */
const BOTTOM = { 1: 46, 2: 64 } as const;
const LEGEND = { 1: 33, 2: 50 } as const;
const GAP = 20;
const PLOT_HEIGHT = { 1: 122, 2: 230 } as const;
const LINE = 17;

/** Told apart by people who do not see all colours as well; in light, and in dark. */
const COLOURS = [
  ['#0067b8', '#58a6ff'],
  ['#c4500a', '#f0883e'],
  ['#0b8a62', '#3fce9a'],
  ['#9a4fb5', '#d2a8ff'],
  ['#6e7781', '#9aa4af'],
] as const;

const colours = (mode: 0 | 1): string =>
  COLOURS.map((pair, i) => `.s${i} { stroke: ${pair[mode]} } .f${i} { fill: ${pair[mode]} }`).join('\n');

const STYLE = `
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
text.title { font-size: 17px; font-weight: 600 } text.head { font-weight: 600 } text.note, text.tick { fill: #59636e; font-size: 11px }
.page { fill: #ffffff } .frame { fill: none; stroke: #b6bdc5 } .grid { stroke: #e4e8ec } .band { fill: #f3e3e0 }
.line, .dashes { fill: none; stroke-width: 1.8; stroke-linejoin: round } .dashes { stroke-dasharray: 5 4 } .rings { fill: none; stroke-width: 1.6 }
${colours(0)}
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } text.note, text.tick { fill: #9aa4af }
.page { fill: #0d1117 } .frame { stroke: #4a525b } .grid { stroke: #23292f } .band { fill: #33211f }
${colours(1)}
}`;

export function plotSvg({ title, notes, columns, panels }: Plot): string {
  const plotWidth = (WIDTH - GAP * (columns - 1)) / columns - MARGIN.left - MARGIN.right;
  const height = PLOT_HEIGHT[columns];
  const cell = {
    width: plotWidth + MARGIN.left + MARGIN.right,
    height: height + MARGIN.top + BOTTOM[columns],
  };
  const top = 38 + notes.length * LINE + 8;
  const total = top + Math.ceil(panels.length / columns) * cell.height;
  const drawn = panels.map((panel, i) => {
    const x = (i % columns) * (cell.width + GAP) + MARGIN.left;
    const y = top + Math.floor(i / columns) * cell.height + MARGIN.top;
    return `<g transform="translate(${x} ${y})">\n${panelSvg(panel, { width: plotWidth, height, legend: height + LEGEND[columns], isFirst: i === 0 })}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${total}" width="${WIDTH}" height="${total}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="page" width="${WIDTH}" height="${total}"/>`,
    `<text class="title" x="16" y="28">${escaped(title)}</text>`,
    ...notes.map((note, i) => `<text class="note" x="16" y="${46 + i * LINE}">${escaped(note)}</text>`),
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

interface Box {
  readonly width: number;
  readonly height: number;
  /** At what height the legend is. */
  readonly legend: number;
  readonly isFirst: boolean;
}

function panelSvg({ title, x, y, series, bands = [] }: Panel, box: Box): string {
  const atX = (value: number) => round(placeOn(x, value) * box.width);
  const atY = (value: number) => round((1 - placeOn(y, value)) * box.height);
  return [
    `<text class="head" x="${-MARGIN.left + 16}" y="-26">${escaped(title)}</text>`,
    ...bands.map(
      ({ name, from, to }) =>
        `<rect class="band" x="${atX(from)}" width="${round(Math.max(1.5, atX(to) - atX(from)))}" height="${box.height}"><title>${escaped(name)}</title></rect>`,
    ),
    ...y.ticks.map(
      ({ at, text }) =>
        `<line class="grid" x2="${box.width}" y1="${atY(at)}" y2="${atY(at)}"/><text class="tick" x="-6" y="${atY(at) + 4}" text-anchor="end">${text}</text>`,
    ),
    ...x.ticks.map(
      ({ at, text }) =>
        `<text class="tick" x="${atX(at)}" y="${box.height + 16}" text-anchor="middle">${text}</text>`,
    ),
    `<rect class="frame" width="${round(box.width)}" height="${box.height}"/>`,
    ...series.map((one) => seriesSvg(one, atX, atY)),
    ...(box.isFirst ? bands : []).map(
      ({ name, from }) => `<text class="note" x="${atX(from) + 3}" y="13">${escaped(name)}</text>`,
    ),
    `<text class="tick" x="${-MARGIN.left + 16}" y="-10">${escaped(y.label)}</text>`,
    `<text class="tick" x="${round(box.width)}" y="${box.height + 32}" text-anchor="end">${escaped(x.label)}</text>`,
    legendSvg(series, box.legend),
  ].join('\n');
}

function seriesSvg(
  { points, colour, as }: Series,
  atX: (value: number) => number,
  atY: (value: number) => number,
): string {
  const places = points.flatMap(([x, y]) => (Number.isFinite(y) ? [[atX(x), atY(y)] as const] : []));
  if (as === 'line' || as === 'dashes')
    return `<polyline class="${as} s${colour}" points="${places.map(([x, y]) => `${x},${y}`).join(' ')}"/>`;
  return places
    .map(([x, y]) => `<circle class="${dotClass(as, colour)}" cx="${x}" cy="${y}" r="3.6"/>`)
    .join('');
}

const dotClass = (as: Series['as'], colour: number): string =>
  as === 'rings' ? `rings s${colour}` : `f${colour}`;

/** Below the panel, from the left. Names are set apart by how wide their letters are in the mean. */
function legendSvg(series: readonly Series[], y: number): string {
  const out: string[] = [];
  let x = 0;
  for (const { name, colour, as } of series) {
    const sign =
      as === 'line' || as === 'dashes'
        ? `<line class="${as} s${colour}" x1="${x}" x2="${x + 20}" y1="${y - 4}" y2="${y - 4}"/>`
        : `<circle class="${dotClass(as, colour)}" cx="${x + 10}" cy="${y - 4}" r="3.6"/>`;
    out.push(`${sign}<text x="${x + 26}" y="${y}">${escaped(name)}</text>`);
    x += 26 + Math.round(name.length * 6.3) + 18;
  }
  return out.join('\n');
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
