// Words at marks, laid out so that none is written over another: each where it belongs, or as near as there is room.

const LABEL_LINE_PX = 16
const LABEL_FONT = "600 13px system-ui, sans-serif"

// Boxes {x, y, width, height}, the first first; an overlapped one goes down, or up where below it the picture ends.
function laidOut(boxes, height) {
  const placed = []
  const isOver = (one, other) => one.x < other.x + other.width && other.x < one.x + one.width &&
    one.y < other.y + other.height && other.y < one.y + one.height
  for (const box of boxes) {
    const at = (y) => ({ ...box, y })
    const under = (one) => placed.find((other) => isOver(one, other))
    const moved = (step) => {
      let found = at(Math.min(Math.max(box.y, 0), Math.max(0, height - box.height)))
      for (let over = under(found); over; over = under(found)) found = at(step(over))
      return found
    }
    const down = moved((over) => over.y + over.height), up = moved((over) => over.y - box.height)
    const isIn = ({ y }) => y >= 0 && y + box.height <= height
    const isDown = isIn(down) && (!isIn(up) || down.y - box.y <= box.y - up.y)
    placed.push(isDown || !isIn(up) ? down : up)
  }
  return placed
}

// What is to be written at a mark, and where it would stand if it were alone.
function labelBox(context, picture, mark, map, level, limit, label) {
  const at = mark.points.map(([column, row]) => applied(map, column, row))
  let anchor = at[mark.kind === "angle" ? 1 : at.length - 1]
  const lines = label ? [label] : markWords(picture, mark, level)
  const isBeside = label || mark.kind === "distance" // what it names or measures, which it would hide
  if (isBeside) anchor = [Math.max(...at.map(([x]) => x)), Math.min(...at.map(([, y]) => y)) + 8]
  const ring = mark.isFixed && mark.kind === "point" ? 14 : 0
  const width = Math.max(0, ...lines.map((words) => context.measureText(words).width))
  const wanted = anchor[0] + 10 + ring / 2, x = Math.max(4, Math.min(wanted, limit - width - 4))
  const y = anchor[1] - (isBeside && x < wanted ? 29 : 21) // above it where there is no room at its side
  return { x, y, width, height: LABEL_LINE_PX * lines.length, lines, anchor, hue: hueOf(mark) }
}

// A label that had to move away is joined to its mark by a thin line.
function drawLabels(context, picture, marks, map, level, ratio, labelOf) {
  context.save()
  context.scale(ratio, ratio)
  context.font = LABEL_FONT
  const width = context.canvas.width / ratio, height = context.canvas.height / ratio
  const wanted = marks.map((mark) => labelBox(context, picture, mark, map, level, width, labelOf(mark)))
    .filter(({ lines }) => lines.length)
  laidOut(wanted, height).forEach((box, number) => {
    context.strokeStyle = context.fillStyle = box.hue
    if (Math.abs(box.y - wanted[number].y) > LABEL_LINE_PX) {
      context.lineWidth = 1
      context.beginPath()
      context.moveTo(...box.anchor)
      context.lineTo(box.x - 2, box.y + LABEL_LINE_PX / 2)
      context.stroke()
    }
    context.lineWidth = 4
    context.strokeStyle = "#000"
    box.lines.forEach((words, index) => {
      const y = box.y + 13 + LABEL_LINE_PX * index
      context.strokeText(words, box.x, y)
      context.fillText(words, box.x, y)
    })
  })
  context.restore()
}
