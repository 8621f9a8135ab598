// Marks: {uid, id (of the picture), kind, points}. Points are [column, row] in the picture's own pixel matrix, lengths as
// in geometry.js; with the frame they are what a DICOM result could point to. An outline has any number of points.

const POINTS_OF = { distance: 2, angle: 3, ellipse: 2, outline: 3, point: 1 }
const OUTLINE_MOST = 512
const OUTLINE_STEP_PX = 3
const isOpen = (mark) => mark.points.length < POINTS_OF[mark.kind]

let nMarks = 0
const newUid = () => `${Date.now().toString(36)}-${(nMarks++).toString(36)}-${Math.random().toString(36).slice(2, 8)}`

function millimetres(picture, from, to) {
  return Math.hypot((to[0] - from[0]) * picture.unit[0], (to[1] - from[1]) * picture.unit[1])
}

function pixelWords(picture, [column, row]) {
  return `column ${Math.floor(column)}, row ${Math.floor(row)}, frame ${picture.frame}`
}

function lengthWords(picture, from, to) {
  return picture.hasSpacing
    ? `${millimetres(picture, from, to).toFixed(2)} mm`
    : `${Math.hypot(to[0] - from[0], to[1] - from[1]).toFixed(1)} pixels`
}

function degreesBetween(picture, [one, corner, other]) {
  const arm = (point) => [(point[0] - corner[0]) * picture.unit[0], (point[1] - corner[1]) * picture.unit[1]]
  const [ax, ay] = arm(one), [bx, by] = arm(other)
  return Math.abs(Math.atan2(ax * by - ay * bx, ax * bx + ay * by)) * (180 / Math.PI)
}

function isInEllipse([from, to]) {
  const cx = (from[0] + to[0]) / 2, cy = (from[1] + to[1]) / 2
  const rx = Math.abs(to[0] - from[0]) / 2, ry = Math.abs(to[1] - from[1]) / 2
  return (x, y) => ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
}

// By the even-odd rule.
function isInOutline(points) {
  return (x, y) => {
    let isIn = false
    points.forEach(([x1, y1], index) => {
      const [x0, y0] = points.at(index - 1)
      if ((y0 <= y) !== (y1 <= y) && x < x0 + ((y - y0) * (x1 - x0)) / (y1 - y0)) isIn = !isIn
    })
    return isIn
  }
}

// What a closed mark encloses; an outline by the even-odd rule, as its grey is taken, on eight lines through each strip
// between two of its corners (core/findings/marks.py does the same).
function areaOf({ kind, points }) {
  if (kind === "ellipse") return (Math.PI / 4) * Math.abs((points[1][0] - points[0][0]) * (points[1][1] - points[0][1]))
  const levels = [...new Set(points.map(([, y]) => y))].sort((one, other) => one - other)
  let area = 0
  for (let strip = 1; strip < levels.length; strip++) {
    const height = levels[strip] - levels[strip - 1]
    for (let line = 0; line < 8; line++) {
      const y = levels[strip - 1] + (height * (line + 0.5)) / 8
      const crossed = points.flatMap(([x1, y1], index) => {
        const [x0, y0] = points.at(index - 1)
        return (y0 <= y) !== (y1 <= y) ? [x0 + ((y - y0) * (x1 - x0)) / (y1 - y0)] : []
      }).sort((one, other) => one - other)
      for (let at = 1; at < crossed.length; at += 2) area += ((crossed[at] - crossed[at - 1]) * height) / 8
    }
  }
  return area
}

// {count, mean, deviation} of the pixels whose middle lies inside the mark, on the scale from 0 (black) to 1 (white);
// null while the whole picture is not there.
function greyInside(level, isColour, { kind, points }) {
  if (!level || level.step !== 1) return null
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y)
  const isIn = kind === "ellipse" ? isInEllipse(points) : isInOutline(points)
  let count = 0, sum = 0, squares = 0
  for (let row = Math.max(0, Math.floor(Math.min(...ys))); row < Math.min(level.height, Math.ceil(Math.max(...ys))); row++) {
    for (let column = Math.max(0, Math.floor(Math.min(...xs))); column < Math.min(level.width, Math.ceil(Math.max(...xs)));
      column++) {
      if (!isIn(column + 0.5, row + 0.5)) continue
      const at = row * level.width + column, data = level.data
      const grey = isColour
        ? (0.299 * data[4 * at] + 0.587 * data[4 * at + 1] + 0.114 * data[4 * at + 2]) / 255
        : data[at] / 65535
      count++
      sum += grey
      squares += grey * grey
    }
  }
  const mean = count ? sum / count : 0
  return { count, mean, deviation: count ? Math.sqrt(Math.max(0, squares / count - mean * mean)) : 0 }
}

// Measured at the hundredths of a pixel that are stored, so that saving changes no number.
function markWords(picture, drawn, level) {
  const mark = { ...drawn, points: drawn.points.map((point) => point.map((part) => Math.round(part * 100) / 100)) }
  const { kind, points } = mark
  if (isOpen(mark)) return []
  if (kind === "distance") return [lengthWords(picture, ...points)]
  if (kind === "angle") return [`${degreesBetween(picture, points).toFixed(1)}\u00b0`]
  if (kind === "point") return [pixelWords(picture, points[0])]
  const grey = greyInside(level, picture.colour, mark), area = areaOf(mark)
  const square = picture.unit[0] * picture.unit[1]
  const words = [picture.hasSpacing ? `${(area * square).toFixed(1)} mm\u00b2` : `${Math.round(area)} pixels`]
  if (grey && grey.count) words.unshift(`mean grey ${grey.mean.toFixed(3)} \u00b1 ${grey.deviation.toFixed(3)}`)
  return words
}

// One line of the list under the pictures: what was measured, where, in the file's own pixels.
function markLine(picture, mark) {
  const named = mark.kind === "outline" ? mark.points.slice(0, 1) : mark.points
  const ends = named.map(([column, row]) => `${column.toFixed(1)}, ${row.toFixed(1)}`).join(" to ")
  const words = markWords(picture, mark, picture.levels?.[0])
  if (mark.kind === "point") return `${picture.label}: ${words[0]}`
  return `${picture.label}: ${mark.kind} ${words.join(", ")} (column, row ${ends}; frame ${picture.frame})`
}

const MARK_COLOUR = "#7fe3ff"
const MODEL_COLOUR = "#ffb454"

const hueOf = (mark) => (mark.isOfModel ? MODEL_COLOUR : MARK_COLOUR)

// isFixed: dashed, it cannot be changed here. A fixed point has a dashed ring: of a dashed cross of ten pixels nothing
// would be seen. What stands at it is drawn by drawLabels.
function drawMark(context, mark, map, ratio) {
  const hue = hueOf(mark)
  const at = mark.points.map(([column, row]) => applied(map, column, row))
  context.save()
  context.scale(ratio, ratio)
  const ring = mark.isFixed && mark.kind === "point" ? 14 : 0
  for (const [colour, width] of [["#000", 3.5], [hue, 1.5]]) {
    context.strokeStyle = colour
    context.lineWidth = width
    context.setLineDash(mark.isFixed ? [6, 4] : [])
    context.beginPath()
    if (mark.kind === "ellipse" && at.length === 2) {
      const [[x0, y0], [x1, y1]] = at
      context.ellipse((x0 + x1) / 2, (y0 + y1) / 2, Math.abs(x1 - x0) / 2, Math.abs(y1 - y0) / 2, 0, 0, 2 * Math.PI)
    } else {
      at.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)))
      if (mark.kind === "outline" && !isOpen(mark)) context.closePath()
    }
    for (const [x, y] of ring ? at : []) {
      context.moveTo(x + ring, y)
      context.arc(x, y, ring, 0, 2 * Math.PI)
    }
    context.stroke()
    context.setLineDash([])
    context.beginPath()
    for (const [x, y] of mark.kind === "outline" ? [] : at) {
      context.moveTo(x - 5, y)
      context.lineTo(x + 5, y)
      context.moveTo(x, y - 5)
      context.lineTo(x, y + 5)
    }
    context.stroke()
  }
  context.restore()
}

// The mark and the number of its point that lie under (x, y) of the cell, or null: the nearest point within reach, and of
// an outline the point next to the place of its line that is.
function handleAt(marks, id, map, x, y, reach) {
  for (const mark of marks.filter((one) => one.id === id).reverse()) {
    const at = mark.points.map(([column, row]) => applied(map, column, row))
    const away = at.map(([px, py]) => Math.hypot(px - x, py - y))
    const nearest = away.indexOf(Math.min(...away))
    if (away[nearest] <= reach) return { mark, point: nearest }
    if (mark.kind !== "outline") continue
    for (let point = 0; point < at.length; point++) {
      const before = at.at(point - 1)
      if (toLine(before, at[point], x, y) > reach) continue
      return { mark, point: away.at(point - 1) < away[point] ? (point + at.length - 1) % at.length : point }
    }
  }
  return null
}

function toLine([ax, ay], [bx, by], x, y) {
  const square = (bx - ax) ** 2 + (by - ay) ** 2
  const share = square ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / square)) : 0
  return Math.hypot(ax + share * (bx - ax) - x, ay + share * (by - ay) - y)
}

// The points of a mark while one of them is dragged by `by` [columns, rows]. Of an outline the points beside it follow,
// less the further they are, up to an eighth of the way around. isWhole: all of it moves. Nothing leaves the picture.
function movedPoints(picture, { kind, points }, grabbed, by, isWhole) {
  const most = [picture.width, picture.height]
  const within = (value, axis) => Math.min(Math.max(value, 0), most[axis])
  if (isWhole) {
    const shift = by.map((part, axis) => {
      const values = points.map((point) => point[axis])
      return Math.min(Math.max(part, -Math.min(...values)), most[axis] - Math.max(...values))
    })
    return points.map(([column, row]) => [column + shift[0], row + shift[1]])
  }
  const weight = kind === "outline" ? followers(points, grabbed) : points.map((_, index) => (index === grabbed ? 1 : 0))
  return points.map((point, index) => point.map((value, axis) => within(value + weight[index] * by[axis], axis)))
}

function followers(points, grabbed) {
  const n = points.length, along = [0]
  for (let step = 1; step <= n; step++) {
    const [ax, ay] = points[(grabbed + step - 1) % n], [bx, by] = points[(grabbed + step) % n]
    along.push(along[step - 1] + Math.hypot(bx - ax, by - ay))
  }
  const around = along[n], reach = around / 8
  return points.map((_, index) => {
    const way = along[(index - grabbed + n) % n], away = Math.min(way, around - way)
    return away < reach ? (1 + Math.cos((Math.PI * away) / reach)) / 2 : index === grabbed ? 1 : 0
  })
}
