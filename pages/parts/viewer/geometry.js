// Where a picture lies in its cell. Lengths in a picture's matrix count pixels, 0 at the outer edge of the first one, so
// that the middle of the first pixel is (0.5, 0.5), as in DICOM's spatial coordinates (PS3.3 C.18.6.1.1).
//
// Affine maps are [a, b, c, d, e, f]: x' = a x + c y + e, y' = b x + d y + f.

function applied(map, x, y) {
  return [map[0] * x + map[2] * y + map[4], map[1] * x + map[3] * y + map[5]]
}

function inverse(map) {
  const [a, b, c, d, e, f] = map, area = a * d - b * c
  return [d / area, -b / area, -c / area, a / area, (c * f - d * e) / area, (b * e - a * f) / area]
}

// How the picture is turned: a 2 x 2 matrix [a, b, c, d] of -1, 0 and 1 from the stored picture to the screen.
const UPRIGHT = [1, 0, 0, 1]
const flippedAcross = ([a, b, c, d]) => [-a, b, -c, d]
const flippedDown = ([a, b, c, d]) => [a, -b, c, -d]
const turnedRight = ([a, b, c, d]) => [-b, a, -d, c]
const isMirrorImage = ([a, b, c, d]) => a * d - b * c < 0
const hungTurn = (picture) => (picture.mirrored ? flippedAcross(UPRIGHT) : UPRIGHT)

// What stands on the picture beside its side and view: letters are written, never mirrored with it.
function turnWords(picture, turn) {
  if (turn.every((part, index) => part === hungTurn(picture)[index])) return picture.hung
  const flipped = isMirrorImage(turn)
  const [a, b] = flipped ? flippedAcross(turn) : turn
  const degrees = (Math.round(Math.atan2(b, a) / (Math.PI / 2)) * 90 + 360) % 360
  return [picture.label, flipped ? "FLIPPED" : "", degrees ? `TURNED ${degrees}\u00b0` : ""].filter(Boolean).join(" ")
}

// Width and height on the screen of the turned picture, in its own unit (millimetres, or pixels without a spacing).
function extent(picture, turn) {
  const w = picture.width * picture.unit[0], h = picture.height * picture.unit[1]
  return turn[0] ? [w, h] : [h, w]
}

// Screen pixels of CSS for one unit when the whole group is just seen: all of it at one scale.
function fitScale(extents, width, height) {
  return Math.min(...extents.map(([w, h]) => Math.min(width / w, height / h)))
}

// Along the screen, away from the chest wall: what moves the right breast to the left moves the left breast to the right.
function outward(picture, align, turn) {
  const isTurned = turn[0] * hungTurn(picture)[0] < 0
  return (align === "right" ? -1 : 1) * (isTurned ? -1 : 1)
}

// Where the middle of the picture lies; `place`: {zoom, u, v}, u and v in units, away from the chest wall and down.
function middle(picture, align, turn, place, scale, width, height) {
  const [w] = extent(picture, turn)
  const base = { left: (w * scale) / 2, right: width - (w * scale) / 2, center: width / 2 }[align]
  return [base + outward(picture, align, turn) * place.u * scale, height / 2 + place.v * scale]
}

// Picture pixels -> CSS pixels of the cell. ratio: of the screen; where one picture pixel is a whole number of the
// screen's, the picture is laid on its raster, so that grey levels are shown as they are.
function pictureMap(picture, align, turn, place, fit, width, height, ratio) {
  const scale = fit * place.zoom, [ux, uy] = picture.unit
  const [x, y] = middle(picture, align, turn, place, scale, width, height)
  const [a, b, c, d] = turn
  const w = (picture.width * ux) / 2, h = (picture.height * uy) / 2
  const map = [a * ux * scale, b * ux * scale, c * uy * scale, d * uy * scale,
    x - (a * w + c * h) * scale, y - (b * w + d * h) * scale]
  const step = (Math.abs(a * ux) + Math.abs(c * uy)) * scale * ratio
  if (Math.abs(step - Math.round(step)) < 1e-6 && step > 0.5) {
    map[4] = Math.round(map[4] * ratio) / ratio
    map[5] = Math.round(map[5] * ratio) / ratio
  }
  return map
}

// The place after zooming by `factor` with the point (x, y) of the cell staying where it is.
function zoomedAt(picture, align, turn, place, fit, width, height, x, y, zoom) {
  const before = fit * place.zoom, after = fit * zoom
  const [mx, my] = middle(picture, align, turn, place, before, width, height)
  const [bx, by] = middle(picture, align, turn, { zoom, u: 0, v: 0 }, after, width, height)
  const u = (x - ((x - mx) / before) * after - bx) / after, v = (y - ((y - my) / before) * after - by) / after
  return { zoom, u: u * outward(picture, align, turn), v }
}
