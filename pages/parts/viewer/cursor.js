// Marks without a mouse. Enter on a picture that has the focus, while a tool for marks is chosen, shows a cursor; the arrow
// keys move it, Shift by one pixel of the screen, and at the border they move the picture. Enter sets a point; an outline is closed
// by Enter where its last corner was set. Delete takes back what is not finished.

const CURSOR_STEP_PX = 10
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

function drawCursor(context, [x, y], ratio) {
  context.save()
  context.scale(ratio, ratio)
  for (const [colour, width] of [["#000", 4], ["#ffd479", 2]]) {
    context.strokeStyle = colour
    context.lineWidth = width
    context.beginPath()
    for (const [dx, dy] of Object.values(ARROWS)) {
      context.moveTo(x + 4 * dx, y + 4 * dy)
      context.lineTo(x + 14 * dx, y + 14 * dy)
    }
    context.stroke()
  }
  context.restore()
}

// The cell that has the focus itself, not one of its buttons.
Board.prototype.focusedCell = function () {
  const focused = this.element.getRootNode().activeElement
  return this.cells.find(({ box, picture }) => picture?.levels && box === focused) || null
}

// Arrows in a cell: the cursor, where there is one; else the window, as a drag would. True where something was done.
Board.prototype.arrow = function (cell, event) {
  const [dx, dy] = ARROWS[event.key], { work } = this
  if (!cell.cursor) {
    const isOfClip = dx && cell.picture.cine
    if (isOfClip || POINTS_OF[work.tool]) return false
    if (event.shiftKey) this.shift(cell, -CURSOR_STEP_PX * 4 * dx, -CURSOR_STEP_PX * 4 * dy)
    else work.windowBy(cell.picture, CURSOR_STEP_PX * dx, CURSOR_STEP_PX * dy, false)
    return true
  }
  const step = event.shiftKey ? 1 : CURSOR_STEP_PX, { clientWidth, clientHeight } = cell.canvas
  const [x, y] = this.onPicture(cell, cell.cursor[0] + step * dx, cell.cursor[1] + step * dy)
  const within = [Math.min(Math.max(x, 0), clientWidth - 1), Math.min(Math.max(y, 0), clientHeight - 1)]
  if (within[0] !== x || within[1] !== y) this.shift(cell, within[0] - x, within[1] - y)
  cell.cursor = cell.pointer = within
  const drawn = this.unfinished(cell)
  if (drawn) drawn.points[drawn.points.length - 1] = this.pointIn(cell, ...within)
  this.redraw()
  return true
}

// The point of the cell itself, or the nearest one over the picture.
Board.prototype.onPicture = function (cell, x, y) {
  const { width, height } = cell.picture, map = this.map(cell), [column, row] = applied(inverse(map), x, y)
  if (column >= 0 && row >= 0 && column < width && row < height) return [x, y]
  return applied(map, Math.min(Math.max(column, 0), width - 0.5), Math.min(Math.max(row, 0), height - 0.5))
}

// The mark that is being set by keys; the page, or Delete, may have taken it away.
Board.prototype.unfinished = function (cell) {
  if (!this.work.marks.includes(cell.drawn)) cell.drawn = null
  return cell.drawn
}

// The middle of the picture where that is in the cell, else the cell's own.
Board.prototype.middleSeen = function (cell) {
  const { picture } = cell, { clientWidth: width, clientHeight: height } = cell.canvas
  const [x, y] = applied(this.map(cell), picture.width / 2, picture.height / 2).map(Math.round)
  return x >= 0 && y >= 0 && x < width && y < height ? [x, y] : [Math.round(width / 2), Math.round(height / 2)]
}

Board.prototype.pressCursor = function (cell) {
  const { work } = this
  if (!cell.picture.levels) return
  if (!cell.cursor) {
    cell.cursor = cell.pointer = cell.pointer || this.middleSeen(cell)
    this.redraw()
    return
  }
  cell.picture.cine?.pause() // a mark lies on one frame
  const point = this.pointIn(cell, ...cell.cursor), mark = this.unfinished(cell)
  if (!mark) {
    const isPoint = work.tool === "point"
    const made = { uid: newUid(), id: faceOf(cell.picture).id, kind: work.tool, points: isPoint ? [point] : [point, [...point]] }
    work.marks.push(made)
    cell.drawn = isPoint ? null : made
    work.changed()
    if (isPoint) work.send()
    return
  }
  const { points, kind } = mark, isMoved = Math.hypot(...points.at(-1).map((part, axis) => part - points.at(-2)[axis])) > 0
  if (kind === "outline") {
    if (isMoved && points.length < OUTLINE_MOST) points.push([...point])
    else if (points.length > POINTS_OF.outline) this.finish(cell, points.slice(0, -1))
  } else if (isMoved && points.length < POINTS_OF[kind]) points.push([...point])
  else if (isMoved) this.finish(cell, points)
  work.changed()
}

Board.prototype.finish = function (cell, points) {
  cell.drawn.points = points
  cell.drawn = null
  this.work.send()
}

// No cursor any more, and nothing that was only begun with it.
Board.prototype.dropCursor = function (cell) {
  if (!cell.cursor) return
  const mark = this.unfinished(cell)
  cell.cursor = cell.pointer = cell.drawn = null
  if (mark) this.work.marks = this.work.marks.filter((one) => one !== mark)
  this.work.changed()
}
