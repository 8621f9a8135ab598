// Marks: {id (of the picture), kind, points}. Points are [column, row] in the picture's own pixel matrix, lengths as in
// geometry.js; with the frame they are what a DICOM result could point to.

const POINTS_OF = { distance: 2, angle: 3, ellipse: 2, point: 1 }

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

// {count, mean, deviation} of the pixels whose middle lies in the ellipse, on the scale from 0 (black) to 1 (white);
// null while the whole picture is not there.
function greyInEllipse(level, isColour, [from, to]) {
  if (!level || level.step !== 1) return null
  const cx = (from[0] + to[0]) / 2, cy = (from[1] + to[1]) / 2
  const rx = Math.abs(to[0] - from[0]) / 2, ry = Math.abs(to[1] - from[1]) / 2
  let count = 0, sum = 0, squares = 0
  for (let row = Math.max(0, Math.floor(cy - ry)); row < Math.min(level.height, Math.ceil(cy + ry)); row++) {
    for (let column = Math.max(0, Math.floor(cx - rx)); column < Math.min(level.width, Math.ceil(cx + rx)); column++) {
      if (((column + 0.5 - cx) / rx) ** 2 + ((row + 0.5 - cy) / ry) ** 2 > 1) continue
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

function markWords(picture, mark, level) {
  const { kind, points } = mark
  if (points.length < POINTS_OF[kind]) return []
  if (kind === "distance") return [lengthWords(picture, ...points)]
  if (kind === "angle") return [`${degreesBetween(picture, points).toFixed(1)}\u00b0`]
  if (kind === "point") return [pixelWords(picture, points[0])]
  const grey = greyInEllipse(level, picture.colour, points)
  const area = (Math.PI / 4) * Math.abs((points[1][0] - points[0][0]) * (points[1][1] - points[0][1]))
  const square = picture.unit[0] * picture.unit[1]
  const words = [picture.hasSpacing ? `${(area * square).toFixed(1)} mm\u00b2` : `${Math.round(area)} pixels`]
  if (grey && grey.count) words.unshift(`mean grey ${grey.mean.toFixed(3)} \u00b1 ${grey.deviation.toFixed(3)}`)
  return words
}

// One line of the list under the pictures: what was measured, where, in the file's own pixels.
function markLine(picture, mark) {
  const ends = mark.points.map(([column, row]) => `${column.toFixed(1)}, ${row.toFixed(1)}`).join(" to ")
  const words = markWords(picture, mark, picture.levels?.[0])
  if (mark.kind === "point") return `${picture.label}: ${words[0]}`
  return `${picture.label}: ${mark.kind} ${words.join(", ")} (column, row ${ends}; frame ${picture.frame})`
}

const MARK_COLOUR = "#7fe3ff"

function drawMark(context, picture, mark, map, level, ratio) {
  const at = mark.points.map(([column, row]) => applied(map, column, row))
  context.save()
  context.scale(ratio, ratio)
  for (const [colour, width] of [["#000", 3.5], [MARK_COLOUR, 1.5]]) {
    context.strokeStyle = colour
    context.lineWidth = width
    context.beginPath()
    if (mark.kind === "ellipse" && at.length === 2) {
      const [[x0, y0], [x1, y1]] = at
      context.ellipse((x0 + x1) / 2, (y0 + y1) / 2, Math.abs(x1 - x0) / 2, Math.abs(y1 - y0) / 2, 0, 0, 2 * Math.PI)
    } else {
      at.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)))
    }
    for (const [x, y] of at) {
      context.moveTo(x - 5, y)
      context.lineTo(x + 5, y)
      context.moveTo(x, y - 5)
      context.lineTo(x, y + 5)
    }
    context.stroke()
  }
  context.font = "600 13px system-ui, sans-serif"
  const anchor = at[mark.kind === "angle" ? 1 : at.length - 1], limit = context.canvas.width / ratio
  markWords(picture, mark, level).forEach((words, index) => {
    const x = Math.max(4, Math.min(anchor[0] + 10, limit - context.measureText(words).width - 4))
    const y = Math.max(16, anchor[1] - 8 + 16 * index)
    context.lineWidth = 4
    context.strokeStyle = "#000"
    context.strokeText(words, x, y)
    context.fillStyle = MARK_COLOUR
    context.fillText(words, x, y)
  })
  context.restore()
}

// The mark and the number of its point that lie under (x, y) of the cell, or null.
function handleAt(marks, id, map, x, y, reach) {
  for (const mark of marks.filter((one) => one.id === id).reverse()) {
    const point = mark.points.findIndex(([column, row]) => {
      const [px, py] = applied(map, column, row)
      return Math.hypot(px - x, py - y) <= reach
    })
    if (point >= 0) return { mark, point }
  }
  return null
}
