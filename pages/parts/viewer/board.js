// One hanging on the screen: the grid in the page, or the whole window. It holds what belongs to where pictures are
// seen (stage, zoom, place); what belongs to the pictures themselves is the workplace's.

const WHOLE = { zoom: 1, u: 0, v: 0 }
const LOUPE_PX = 240
const DRAG_PX = 4
const WHEEL_A_FRAME = 50
const KEY_ZOOM = 1.25
const keyOf = (picture) => picture.clip?.imageId || picture.id // a clip is the same with another frame read

class Board {
  constructor(work, isWhole) {
    this.work = work
    this.isWhole = isWhole
    this.stageIndex = 0
    this.element = element("div", "board")
    this.bar = element("div", "toolbar")
    this.bar.setAttribute("role", "toolbar")
    this.bar.setAttribute("aria-label", "Tools for the pictures")
    this.grid = element("div", "grid")
    this.readout = element("div", "readout")
    this.list = element("ul", "measures")
    this.list.setAttribute("aria-label", "Measurements")
    this.element.append(...(work.head.hasTools ? [this.bar, this.grid, this.readout, this.list] : [this.grid]))
    this.cells = []
    this.pointers = new Map()
    this.resized = new ResizeObserver(() => this.redraw())
    this.resized.observe(this.grid)
  }

  get stage() { return this.work.head.stages[this.stageIndex] }

  // Cells are made only for another hanging; what is drawn in them changes without touching them.
  toStage(index) {
    for (const cell of this.cells) this.dropCursor(cell)
    this.stageIndex = Math.min(Math.max(index, 0), this.work.head.stages.length - 1)
    this.linked = { ...WHOLE }
    this.own = new Map()
    this.build()
    this.work.changed()
  }

  build() {
    this.shape = JSON.stringify(this.stage)
    this.cells = this.stage.places.map(([index, label, align]) => this.cell(index, label, align))
    this.grid.style.setProperty("--columns", this.stage.columns)
    this.grid.style.setProperty("--rows", Math.ceil(this.stage.places.length / this.stage.columns))
    const isOneRow = this.stage.places.length <= this.stage.columns, [wide, narrow] = this.work.head.cellHeight
    this.grid.style.setProperty("--cell-height", isOneRow ? this.work.rowHeight(0) : wide)
    this.grid.style.setProperty("--cell-height-narrow", isOneRow ? this.work.rowHeight(1) : narrow)
    this.grid.replaceChildren(...this.cells.map((cell) => cell.box))
    this.active = this.cells.find((cell) => cell.picture) || null
  }

  cell(index, label, align) {
    const box = element("div", "cell")
    const picture = index === null ? null : this.work.pictures[index]
    if (!picture) {
      box.classList.add("empty")
      box.textContent = label
      return { box, picture: null }
    }
    const side = align === "left" ? "right" : "left"
    const canvas = element("canvas"), plate = element("div", `label ${side}`), note = element("div", `note ${side}`)
    const words = plate.appendChild(element("span")), state = element("div", "state")
    canvas.setAttribute("role", "img")
    canvas.setAttribute("aria-label", picture.hung)
    box.tabIndex = 0
    box.append(canvas, plate, note, state)
    const cell = { box, picture, align, canvas, words, note, state, pointer: null }
    if (picture.cine && this.work.head.hasTools) box.append((cell.cine = cineBar(picture)))
    box.classList.toggle("clip", Boolean(cell.cine))
    this.listen(cell)
    return cell
  }

  place(cell) {
    if (this.isLinked(cell)) return this.linked
    return this.own.get(keyOf(cell.picture)) || WHOLE
  }

  isLinked(cell) { return this.work.isLinked && cell.align !== "center" }

  move(cell, place) {
    if (this.isLinked(cell)) this.linked = place
    else this.own.set(keyOf(cell.picture), place)
    this.redraw()
  }

  fit(cell) {
    const isInScale = ({ picture }) => picture?.hasSpacing // the others are in pixels, which are of no length
    const group = this.work.head.sameScale && isInScale(cell) ? this.cells.filter(isInScale) : [cell]
    const sizes = group.map((one) => extent(one.picture, one.picture.turn))
    return fitScale(sizes, cell.canvas.clientWidth, cell.canvas.clientHeight)
  }

  map(cell) {
    const { canvas, picture } = cell
    return pictureMap(picture, cell.align, picture.turn, this.place(cell), this.fit(cell), canvas.clientWidth,
      canvas.clientHeight, window.devicePixelRatio || 1)
  }

  zoom(cell, wanted, x, y) {
    const { canvas, picture } = cell, fit = this.fit(cell), [ux] = picture.unit
    const most = Math.max(16 / (fit * ux * (window.devicePixelRatio || 1)), 1)
    const zoom = Math.min(most, Math.max(1, wanted))
    const place = this.place(cell)
    this.move(cell, zoom === 1 && place.zoom > 1 ? { ...WHOLE } : zoomedAt(picture, cell.align, picture.turn, place, fit,
      canvas.clientWidth, canvas.clientHeight, x, y, zoom))
  }

  zoomBy(cell, factor) {
    const { canvas } = cell, at = cell.pointer || [canvas.clientWidth / 2, canvas.clientHeight / 2]
    if (cell.picture.levels) this.zoom(cell, this.place(cell).zoom * factor, ...at)
  }

  // One pixel of the picture for one of the screen, around the pointer or the middle of the cell.
  real(cell) {
    const { canvas, picture } = cell, [x, y] = cell.pointer || [canvas.clientWidth / 2, canvas.clientHeight / 2]
    const scale = 1 / ((window.devicePixelRatio || 1) * picture.unit[0]), fit = this.fit(cell)
    this.move(cell, zoomedAt(picture, cell.align, picture.turn, this.place(cell), fit, canvas.clientWidth,
      canvas.clientHeight, x, y, scale / fit))
  }

  shift(cell, dx, dy) {
    const place = this.place(cell), scale = this.fit(cell) * place.zoom
    const u = place.u + (dx * outward(cell.picture, cell.align, cell.picture.turn)) / scale
    this.move(cell, { ...place, u, v: place.v + dy / scale })
  }

  redraw() {
    this.waiting ||= requestAnimationFrame(() => this.drawNow())
  }

  drawNow() {
    cancelAnimationFrame(this.waiting)
    this.waiting = 0
    for (const cell of this.cells) if (cell.picture) this.draw(cell)
    this.say()
  }

  draw(cell) {
    const { canvas } = cell, { work } = this, ratio = window.devicePixelRatio || 1, picture = faceOf(cell.picture)
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio)
    const heat = work.isHeated ? picture.heatLevel : null
    const words = turnWords(picture, picture.turn)
    if (cell.words.textContent !== words) {
      cell.words.textContent = words
      canvas.setAttribute("aria-label", words)
    }
    const isNoted = heat || (work.isHeated && !cell.picture.heat) // of a clip with a map no frame but its own
    cell.note.textContent = isNoted ? picture.note : ""
    const isWaited = !picture.levels || (work.isHeated && picture.heat && !heat)
    cell.state.textContent = picture.failure || (isWaited ? "Loading \u2026" : "")
    cell.cine?.update()
    cell.box.classList.toggle("active", cell === this.active && this.cells.length > 1)
    if (!picture.levels) contextOf(canvas).clearRect(0, 0, canvas.width, canvas.height) // never another frame than it says
    if (!width || !height || !picture.levels) return
    if (canvas.width !== width) canvas.width = width
    if (canvas.height !== height) canvas.height = height
    const context = contextOf(canvas), map = this.map(cell)
    this.paint(context, picture, heat, map, width, height, ratio)
    const marks = [...work.marks, ...(work.head.shown || [])].filter((mark) => mark.id === picture.id)
    for (const mark of marks) drawMark(context, mark, map, ratio)
    drawLabels(context, picture, marks, map, picture.levels[0], ratio, (mark) => work.labelOf(mark))
    if (cell.cursor) drawCursor(context, cell.cursor, ratio)
    if (work.hasCross && work.cross) this.drawCross(context, cell, map, ratio)
    if (work.hasLoupe && cell.pointer) this.drawLoupe(context, cell, heat, map, ratio)
  }

  paint(context, picture, heat, map, width, height, ratio) {
    const back = inverse(map.map((part) => part * ratio)), { work } = this
    const level = levelFor(picture.levels, Math.max(Math.hypot(back[0], back[1]), Math.hypot(back[2], back[3])))
    drawScene(context, {
      width, height, level, heat, back, most: picture.colour ? 255 : 65535, isColour: picture.colour,
      low: picture.center - picture.span / 2, span: Math.max(picture.span, 1e-6), isInverted: work.isInverted,
      size: [picture.width, picture.height], opacity: work.opacity, contour: work.contour, hue: work.head.hue,
      lowCut: work.head.lowCut,
    })
  }

  // What lies under the pointer of a mammogram, for the other views of its breast: {picture, point, depth in mm}.
  cross(cell) {
    const { picture, pointer } = cell
    if (!pointer || !picture.front || !picture.hasSpacing) return null
    const point = applied(inverse(this.map(cell)), ...pointer), [front, step] = picture.front
    if (point[0] < 0 || point[1] < 0 || point[0] > picture.width || point[1] > picture.height) return null
    return { picture, point, depth: (point[0] - front) * step * picture.unit[0] }
  }

  // The whole cross where the pointer is; in other views of the breast the line as far behind its front.
  drawCross(context, { picture }, map, ratio) {
    const { cross } = this.work, isHere = picture === cross.picture
    if (!isHere && (!picture.front || !picture.hasSpacing || !picture.side || picture.side !== cross.picture.side)) return
    const column = isHere ? cross.point[0] : picture.front[0] + (picture.front[1] * cross.depth) / picture.unit[0]
    if (column < 0 || column > picture.width) return
    const lines = [[[column, 0], [column, picture.height]]]
    if (isHere) lines.push([[0, cross.point[1]], [picture.width, cross.point[1]]])
    context.save()
    context.scale(ratio, ratio)
    context.strokeStyle = MARK_COLOUR
    context.lineWidth = 1
    if (!isHere) context.setLineDash([8, 6])
    context.beginPath()
    for (const [from, to] of lines) {
      context.moveTo(...applied(map, ...from))
      context.lineTo(...applied(map, ...to))
    }
    context.stroke()
    context.restore()
  }

  drawLoupe(context, cell, heat, map, ratio) {
    const [x, y] = cell.pointer, side = Math.round(LOUPE_PX * ratio)
    const glass = (this.glass ||= document.createElement("canvas"))
    if (glass.width !== side) glass.width = glass.height = side
    const scale = Math.max(2, 1 / (Math.hypot(map[0], map[1]) * ratio))
    const larger = [...map.slice(0, 4).map((part) => part * scale), (map[4] - x) * scale + LOUPE_PX / 2,
      (map[5] - y) * scale + LOUPE_PX / 2]
    this.paint(contextOf(glass), faceOf(cell.picture), heat, larger, side, side, ratio)
    context.save()
    context.beginPath()
    context.arc(x * ratio, y * ratio, side / 2, 0, 2 * Math.PI)
    context.strokeStyle = "#7fb2c9"
    context.lineWidth = 3 * ratio
    context.stroke()
    context.clip()
    context.drawImage(glass, x * ratio - side / 2, y * ratio - side / 2)
    context.restore()
  }

  // What is under the pointer, and what a measured millimetre means.
  say() {
    const cell = this.active
    const picture = cell && faceOf(cell.picture)
    if (!picture?.levels) return
    const map = this.map(cell), scale = Math.hypot(map[0], map[1]) * (window.devicePixelRatio || 1)
    const parts = [`${Math.round(scale * 100)} % of its pixels`,
      `window ${picture.center.toFixed(2)} / ${picture.span.toFixed(2)}`]
    if (cell.pointer) {
      const point = applied(inverse(map), ...cell.pointer)
      if (point[0] >= 0 && point[1] >= 0 && point[0] < picture.width && point[1] < picture.height) {
        parts.unshift(pixelWords(picture, point))
        const cross = this.work.hasCross && this.cross(cell)
        if (cross) parts.unshift(`${cross.depth.toFixed(0)} mm behind the front of the breast`)
      }
    }
    if (picture.levels[0].step > 1) parts.push("finer pixels are on their way")
    if (this.work.tool === "distance" || this.work.marks.some((mark) => mark.id === picture.id)) parts.push(picture.spacing)
    this.readout.textContent = parts.join(" \u00b7 ")
    const { marking } = this.work.head // the page itself lists what it saves
    const listed = this.work.marks.filter((mark) => !marking || this.work.isOnPrior(mark))
    const lines = listed.map((mark) => markLine(faceOfMark(this.work.pictures, mark), mark))
    if (lines.length) lines.push("Measurements are not saved with the read.")
    this.list.replaceChildren(...lines.map((line) => element("li", "", line)))
  }

  leave() {
    for (const cell of this.cells) this.dropCursor(cell)
    this.resized.disconnect()
    cancelAnimationFrame(this.waiting)
  }
}

// Mouse, pen and fingers in one cell.
Board.prototype.listen = function (cell) {
  const { canvas, box } = cell, { work } = this
  const at = (event) => {
    const box = canvas.getBoundingClientRect()
    return [event.clientX - box.left, event.clientY - box.top]
  }
  let drag = null
  const leaveFrame = () => { // what was begun on one frame of a clip is not finished on another
    if (!drag?.handle || drag.handle.mark.id === faceOf(cell.picture).id) return
    if (drag.isNew) work.marks = work.marks.filter((mark) => mark !== drag.handle.mark)
    else work.send()
    drag = null
    work.changed()
  }
  const activate = () => {
    if (this.active === cell) return
    this.active = cell
    this.redraw()
  }
  box.addEventListener("focusin", activate)
  box.addEventListener("focusout", () => this.dropCursor(cell))
  box.onkeydown = (event) => {
    if (event.key !== "Enter" || event.target !== box) return
    event.preventDefault()
    if (POINTS_OF[work.tool]) this.pressCursor(cell)
    else if (!this.isWhole) work.enlarge(cell.picture)
  }
  canvas.oncontextmenu = (event) => event.preventDefault()
  let turned = 0
  canvas.onwheel = (event) => {
    if (!cell.picture.levels) return
    event.preventDefault()
    activate()
    if (cell.cine && !event.shiftKey && !event.ctrlKey) {
      turned += event.deltaY
      const frames = Math.trunc(turned / WHEEL_A_FRAME)
      turned -= frames * WHEEL_A_FRAME
      if (frames) cell.picture.cine.step(Math.sign(frames) * Math.min(Math.abs(frames), 3))
      return
    }
    this.zoom(cell, this.place(cell).zoom * Math.exp(-(event.deltaY || event.deltaX) * 0.0015), ...at(event))
  }
  canvas.onpointerdown = (event) => {
    if (!cell.picture.levels) return
    if (event.button === 1) event.preventDefault() // the browser's own scrolling
    activate()
    box.focus({ preventScroll: true })
    this.dropCursor(cell)
    canvas.setPointerCapture(event.pointerId)
    this.pointers.set(event.pointerId, at(event))
    const kind = this.pointers.size === 2 ? "pinch" : this.dragKind(event)
    if (POINTS_OF[kind]) cell.picture.cine?.pause() // a mark lies on one frame
    drag = { kind, from: at(event), last: at(event), moved: false, zoom: this.place(cell).zoom, pinch: this.pinch() }
    if (POINTS_OF[kind] && this.pointers.size === 1) this.startMark(cell, drag, ...at(event), event.shiftKey)
  }
  canvas.onpointermove = (event) => {
    cell.pointer = at(event)
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at(event))
    if (work.hasCross) {
      work.cross = this.cross(cell)
      work.redraw()
    }
    leaveFrame()
    if (drag) this.drag(cell, drag, at(event), event)
    else if (work.hasLoupe) this.redraw()
    else this.say()
  }
  const end = (event) => {
    this.pointers.delete(event.pointerId)
    leaveFrame()
    if (drag?.handle && event.type === "pointerup") this.endMark(drag)
    drag = null
  }
  canvas.onpointerup = end
  canvas.onpointercancel = end
  canvas.onpointerenter = activate
  canvas.onpointerleave = () => {
    cell.pointer = null
    work.cross = null
    if (work.hasCross) work.redraw()
    if (work.hasLoupe) this.redraw()
  }
  canvas.ondblclick = () => {
    if (!this.isWhole && !POINTS_OF[work.tool]) work.enlarge(cell.picture)
  }
}

Board.prototype.dragKind = function (event) {
  const { work } = this
  if (work.isSpaceDown || event.button === 1) return "move"
  if (event.button === 2) return "zoom"
  if (event.pointerType === "touch" && work.tool === "window") return this.isWhole ? "move" : "nothing"
  return work.head.hasTools ? work.tool : "nothing"
}

Board.prototype.pinch = function () {
  if (this.pointers.size !== 2) return null
  const [[ax, ay], [bx, by]] = [...this.pointers.values()]
  return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.hypot(ax - bx, ay - by) }
}

Board.prototype.drag = function (cell, drag, [x, y], event) {
  const { work } = this, dx = x - drag.last[0], dy = y - drag.last[1]
  drag.moved ||= Math.hypot(x - drag.from[0], y - drag.from[1]) > DRAG_PX
  drag.last = [x, y]
  if (drag.kind === "move") {
    work.hasDragged = true
    this.shift(cell, dx, dy)
  } else if (drag.kind === "zoom") {
    this.zoom(cell, this.place(cell).zoom * Math.exp(-dy * 0.01), ...drag.from)
  } else if (drag.kind === "window" && drag.moved) {
    work.windowBy(cell.picture, dx, dy, event.shiftKey)
  } else if (drag.kind === "pinch" && this.pointers.size === 2) {
    const now = this.pinch(), before = drag.pinch
    this.shift(cell, now.x - before.x, now.y - before.y)
    this.zoom(cell, this.place(cell).zoom * (now.apart / Math.max(before.apart, 1)), now.x, now.y)
    drag.pinch = now
  } else if (drag.handle?.before) {
    const [column, row] = this.pointIn(cell, x, y), [column0, row0] = drag.handle.from
    drag.handle.mark.points = movedPoints(cell.picture, drag.handle.before, drag.handle.point,
      [column - column0, row - row0], drag.handle.isWhole)
    this.redraw()
  } else if (drag.handle?.mark.kind === "outline") {
    const { points } = drag.handle.mark
    if (Math.hypot(x - drag.added[0], y - drag.added[1]) < OUTLINE_STEP_PX) return
    points.push(this.pointIn(cell, x, y))
    drag.added = [x, y]
    if (points.length > OUTLINE_MOST) drag.handle.mark.points = points.filter((_, index) => index % 2 === 0)
    this.redraw()
  } else if (drag.handle) {
    drag.handle.mark.points[drag.handle.point] = this.pointIn(cell, x, y)
    this.redraw()
  }
}

Board.prototype.pointIn = function (cell, x, y) {
  const { picture } = cell, [column, row] = applied(inverse(this.map(cell)), x, y)
  return [Math.min(Math.max(column, 0), picture.width), Math.min(Math.max(row, 0), picture.height)]
}

// A press on a mark's point moves it, with Shift the whole mark; elsewhere it begins a mark, and a third point of an
// angle is pressed after a drag.
Board.prototype.startMark = function (cell, drag, x, y, isWhole) {
  const { work } = this, { id } = faceOf(cell.picture), point = this.pointIn(cell, x, y)
  const open = work.marks.find((mark) => mark.id === id && isOpen(mark))
  if (open) {
    open.points.push(point)
    drag.handle = { mark: open, point: open.points.length - 1 }
  } else {
    drag.handle = handleAt(work.marks, id, this.map(cell), x, y, 8)
    if (drag.handle) {
      const { mark, point: number } = drag.handle
      Object.assign(drag.handle, { isWhole, before: { kind: mark.kind, points: mark.points },
        from: mark.kind === "outline" || isWhole ? point : mark.points[number] })
    } else {
      const hasOne = work.tool === "point" || work.tool === "outline"
      const mark = { uid: newUid(), id, kind: work.tool, points: hasOne ? [point] : [point, point] }
      work.marks.push(mark)
      drag.added = [x, y]
      drag.handle = { mark, point: mark.points.length - 1 }
      drag.isNew = true
    }
  }
  work.changed()
}

// A press without a drag drew no length: it was a mistake, not a measurement.
Board.prototype.endMark = function (drag) {
  const { work } = this, { mark } = drag.handle
  const isNothing = mark.kind === "outline" ? isOpen(mark) : !drag.moved && mark.kind !== "point"
  if (drag.isNew && isNothing) work.marks = work.marks.filter((one) => one !== mark)
  work.changed()
  work.send()
}
