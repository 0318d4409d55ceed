"""The page on which a person reads a scored folder: one file that opens offline and loads nothing.

Every text that comes from a file name is escaped. The content policy of the page allows its one style and its one
script by their SHA-256, and pictures that it contains; without the script it can still be read, not filtered.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from amae.figures.gallery import MAP
from amae.figures.style import SCORES
from amae.predict.calibration import OperatingPoint
from amae.runtime.files import atomic

LISTED = 10_000  # images of each part of the page, some 1.5 KB each
PICTURED = 1000  # images with a picture on the page, some 50 KB each
BINS = 24  # of the histogram of normal images
WIDTH, HEIGHT, FLOOR = 200, 90, 70  # of that histogram, in its own units; FLOOR: where its bars stand
STYLE = """
* {box-sizing: border-box}
body {font: 15px/1.4 sans-serif; margin: 0 0 0 17em; padding: 0 1em 50vh; color: #222}
nav {position: fixed; inset: 0 auto 0 0; width: 17em; overflow-y: auto; padding: .6em; background: #f3f3f3}
nav {font-size: 13px}
nav input {width: 100%; font: inherit; padding: .3em}
nav ol {margin: .4em 0; padding: 0; list-style: none}
nav a {display: block; padding: .2em .3em; color: inherit; text-decoration: none; overflow-wrap: anywhere}
nav a[aria-current] {background: #222; color: #fff}
nav b {font-variant-numeric: tabular-nums; margin-right: .4em; white-space: nowrap}
h1 {font-size: 1.3em}
h2 {font-size: 1em; margin: 0; overflow-wrap: anywhere}
h2.part {font-size: 1.15em; margin: 1em 0; border-top: 2px solid #222; padding-top: .6em}
p {margin: .3em 0}
article {padding: .5em 0; border-top: 1px solid #ddd; outline: none}
article {content-visibility: auto; contain-intrinsic-size: auto 34em}
article > div {display: flex; gap: 1em; align-items: flex-start}
article img {width: calc(100% - 14em); height: auto; max-height: calc(100vh - 6em)}
article img {object-fit: contain; object-position: left top}
article figure {margin: 0; width: 13em}
svg.shown {display: block; width: 100%; font: 11px sans-serif}
svg.definitions {position: absolute; width: 0; height: 0}
table {border-collapse: collapse}
th, td {padding: .3em .6em; text-align: left; border-bottom: 1px solid #ddd; overflow-wrap: anywhere}
.warning {background: #fff3cd; padding: .6em 1em}
.abnormal {color: #b34700; font-weight: bold}
nav .abnormal {font-weight: normal}
nav .abnormal b::before {content: "▲ "}
nav a[aria-current].abnormal {color: #ffb377}
.bars {fill: #0072b2; fill-opacity: .55}
.threshold {stroke: #b34700; stroke-dasharray: 3 2}
.case {fill: #222}
[hidden] {display: none !important}
"""
SCRIPT = """
"use strict"
const cases = [...document.querySelectorAll("article")]
const texts = cases.map(each => each.querySelector("header").textContent.toLowerCase())
const links = cases.map(each => document.querySelector(`nav a[href="#${each.id}"]`))
const filter = document.querySelector("nav input"), count = document.querySelector("nav output")
let current = -1
function mark(place) {
  if (current >= 0) links[current].removeAttribute("aria-current")
  current = place
  links[place].setAttribute("aria-current", "true")
  links[place].scrollIntoView({block: "nearest"})
}
function show(place) {
  mark(place)
  cases[place].scrollIntoView({block: "start"})
  if (document.activeElement !== filter) cases[place].focus({preventScroll: true})
}
function step(by) {
  const seen = cases.flatMap((each, place) => each.hidden ? [] : [place])
  if (!seen.length) return
  const at = by > 0 ? seen.find(place => place > current) : seen.findLast(place => place < current)
  show(at ?? (by > 0 ? seen.at(-1) : seen[0]))
}
function sieve() {
  const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean)
  let left = 0
  cases.forEach((each, place) => {
    const kept = words.every(word => texts[place].includes(word))
    each.hidden = links[place].parentElement.hidden = !kept
    left += kept
  })
  count.value = `${left} of ${cases.length}`
}
filter.addEventListener("input", sieve)
cases.forEach((each, place) => each.addEventListener("focusin", () => { if (place !== current) mark(place) }))
links.forEach((each, place) => each.addEventListener("click", event => { event.preventDefault(); show(place) }))
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return
  const typing = document.activeElement === filter
  const by = {ArrowDown: 1, ArrowUp: -1, ...(typing ? {} : {ArrowRight: 1, ArrowLeft: -1})}[event.key]
  if (by) step(by)
  else if (event.key === "/" && !typing) filter.focus()
  else if (event.key === "Escape") { filter.value = ""; sieve(); filter.blur() }
  else return
  event.preventDefault()
})
sieve()
"""


def _source(text: str) -> str:
    """The content policy's name of an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = f"default-src 'none'; img-src data:; style-src {_source(STYLE)}; script-src {_source(SCRIPT)}"


@dataclass(frozen=True)
class Reading:
    """All that a reader needs beside the images.

    `notes` and `warnings`: sentences. `limit`: the end of the colour scale. `reference (M,)`: scores of the normal
    calibration images, or None; `point`: the threshold, or None.
    """

    notes: Sequence[str]
    warnings: Sequence[str]
    limit: float
    reference: np.ndarray | None
    point: OperatingPoint | None


def pictured(scored: int) -> str:
    """The scored images that have a picture on the page, as a sentence; "" for all of them."""
    if scored <= PICTURED:
        return ""
    return f"Pictures of the first {PICTURED} of {scored} images; those of all are in the folder reading."


def listed(files: int) -> str:
    """The files that the page lists, as a sentence; "" for all of them."""
    if files <= LISTED:
        return ""
    return (
        f"This page lists up to {LISTED} images called or not, flagged ones and unreadable files each, the highest "
        f"scores first; predictions.csv lists all {files}."
    )


def write_page(table: pd.DataFrame, score: str, about: Reading, folder: Path) -> None:
    """Write `folder`/summary.html.

    table: the predictions, highest score first. Images without a flag come first, flagged ones apart and after them,
    files that could not be scored last. Pictures are those that the column `reading` names in `folder`.
    """
    scored = table["reason"] == ""
    parts = {"": table[scored & (table["flag"] == "")], "Flagged: not called": table[scored & (table["flag"] != "")]}
    axis = _Axis.of(about, table.loc[scored, score])
    links, articles, place = [], [], 0
    for heading, part in parts.items():
        if heading and len(part):
            links.append(f"<li><i>{heading}</i></li>")
            articles.append(f'<h2 class="part">{heading}</h2>')
        for row in part.to_dict("records"):
            place += 1
            links.append(_link(row, score, place))
            articles.append(_article(row, score, place, axis, folder if place <= PICTURED else None))
    heading = _named(score)
    page = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>AMAE: {heading}</title><style>{STYLE}</style></head><body>",
        '<nav><input type="search" placeholder="filter: name, call, remark" aria-label="filter"><output></output>',
        f"<ol>{''.join(links)}</ol></nav>",
        f"<main><h1>Radiographs by {heading}</h1>",
        *(f"<p>{escape(note)}</p>" for note in about.notes),
        "<p>Left the radiograph, right what adds to the detector's score, over it. Point: the score among those of "
        "normal images; dashed: the threshold. Arrow keys go from image to image, / goes to the filter, Esc clears "
        "it.</p>",
        *(f'<p class="warning">{escape(warning)}</p>' for warning in about.warnings),
        _definitions(about, axis),
        *articles,
        *_not_scored(table[~scored]),
        f"</main><script>{SCRIPT}</script></body></html>",
    ]
    with atomic(folder / "summary.html") as temporary:
        temporary.write_text("\n".join(page) + "\n", encoding="utf-8")


def _link(row: dict, score: str, place: int) -> str:
    """One image in the list at the side."""
    return f'<li><a href="#c{place}" class="{row["call"]}"><b>{row[score]:.3g}</b>{escape(row["file"])}</a></li>'


def _named(score: str) -> str:
    """A score's name as its readers know it, who compare no methods."""
    return escape(SCORES[score][0].removesuffix(" (ours)"))


def _article(row: dict, score: str, place: int, axis: "_Axis", folder: Path | None) -> str:
    """One image with its numbers, its pictures from `folder`, the colour bar and its place among normal images."""
    facts = [f"{_named(score)} {row[score]:.4g}"]
    if pd.notna(row[f"{score}_percentile"]):
        facts.append(f"percentile {row[f'{score}_percentile']:.4g}")
    if row["call"]:
        facts.append(f'<span class="{row["call"]}">{row["call"]}</span>')
    if row["flag"]:
        facts.append(escape(row["flag"]))
    picture = ""
    if folder:
        data = base64.b64encode((folder / row["reading"]).read_bytes()).decode()
        with Image.open(folder / row["reading"]) as file:
            width, height = file.size
        picture = (
            f'<img alt="the radiograph, and the map over it" width="{width}" height="{height}" loading="lazy" '
            f'decoding="async" src="data:image/webp;base64,{data}">'
        )
    bar = f'<svg class="shown" viewBox="0 0 {WIDTH} 40"><use href="#scale"/></svg>'
    return (
        f'<article id="c{place}" tabindex="-1"><header><h2>{place}. <span>{escape(row["file"])}</span></h2>'
        f"<p>{'; '.join(facts)}</p></header>"
        f"<div>{picture}<figure>{bar}{axis.drawn(row[score])}</figure></div></article>"
    )


def _not_scored(table: pd.DataFrame) -> list[str]:
    """The files that could not be scored, each with its reason."""
    if table.empty:
        return []
    rows = [
        f"<tr><td>{escape(file)}</td><td>{escape(reason)}</td></tr>"
        for file, reason in table[["file", "reason"]].itertuples(index=False)
    ]
    return ['<h2 class="part">Not scored</h2><table><tr><th>file</th><th>reason</th></tr>', *rows, "</table>"]


@dataclass(frozen=True)
class _Axis:
    """The scores from `low` to `high` on the width of the histogram; `known` if there are normal images to show."""

    low: float
    high: float
    known: bool

    @classmethod
    def of(cls, about: Reading, scores: pd.Series) -> "_Axis":
        """From the lowest to the highest of the normal images and of those on the page."""
        known = about.reference is not None and len(about.reference) > 0
        values = np.concatenate([scores.to_numpy(float), about.reference if known else []])
        low, high = float(values.min()), float(values.max())
        return cls(low, high if high > low else low + 1, known)

    def x(self, score: float) -> float:
        """The place of a score, in units of the drawing."""
        return round(5 + (WIDTH - 10) * (score - self.low) / (self.high - self.low), 1)

    def drawn(self, score: float) -> str:
        """The histogram of normal images with a score as a point below its bars; "" where there are none."""
        if not self.known:
            return ""
        return (
            f'<svg class="shown" viewBox="0 0 {WIDTH} {HEIGHT}"><use href="#normal"/>'
            f'<circle class="case" cx="{self.x(score)}" cy="{FLOOR}" r="4"/></svg>'
        )


def _definitions(about: Reading, axis: _Axis) -> str:
    """What every image shows alike: the colour bar with its range, and the histogram of normal images."""
    stops = "".join(
        f'<stop offset="{step / 16:g}" stop-color="{to_hex(colormaps[MAP](step / 16))}"/>' for step in range(17)
    )
    scale = (
        f'<symbol id="scale" viewBox="0 0 {WIDTH} 40"><rect x="5" y="2" width="{WIDTH - 10}" height="10" '
        f'fill="url(#colours)"/><text x="5" y="24">0</text><text x="{WIDTH - 5}" y="24" text-anchor="end">'
        f"{about.limit:.2g} or more</text>"
        '<text x="5" y="38">what raises the score of the detector (logit)</text></symbol>'
    )
    return (
        '<svg class="definitions" aria-hidden="true"><defs>'
        f'<linearGradient id="colours">{stops}</linearGradient></defs>'
        f"{scale}{_normal(about, axis) if axis.known else ''}</svg>"
    )


def _normal(about: Reading, axis: _Axis) -> str:
    """The histogram of normal images, with the threshold as a line."""
    counts, edges = np.histogram(about.reference, BINS, (axis.low, axis.high))
    heights, starts = 60 * counts / counts.max(), [axis.x(edge) for edge in edges]
    bars = "".join(
        f'<rect x="{left}" y="{FLOOR - height:.1f}" width="{right - left:.1f}" height="{height:.1f}"/>'
        for height, left, right in zip(heights, starts[:-1], starts[1:], strict=True)
        if height
    )
    line = ""
    if about.point:
        x = axis.x(min(max(about.point.threshold, axis.low), axis.high))
        line = f'<line class="threshold" x1="{x}" x2="{x}" y1="4" y2="{FLOOR}"/>'
    return (
        f'<symbol id="normal" viewBox="0 0 {WIDTH} {HEIGHT}"><g class="bars">{bars}</g>{line}'
        f'<line x1="0" x2="{WIDTH}" y1="{FLOOR}" y2="{FLOOR}" stroke="#888"/>'
        f'<text x="2" y="{HEIGHT - 8}">{axis.low:.3g}</text>'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{len(about.reference)} normal images</text>'
        f'<text x="{WIDTH - 2}" y="{HEIGHT - 8}" text-anchor="end">{axis.high:.3g}</text></symbol>'
    )
