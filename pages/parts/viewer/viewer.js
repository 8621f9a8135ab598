// Pictures on black, drawn by the browser and never sent by URL: bytes come as [u32 length][json][jpeg][jpeg]...
// Click or Enter enlarges one; there the wheel zooms at the pointer, a drag moves, Escape returns.
// "o" takes the heat map off and puts it back: the grey picture is always one key away.

function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const length = view.getUint32(0, true)
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)))
  let at = 4 + length
  const take = (size) => size ? bytes.slice(at, (at += size)) : null
  for (const cell of head.cells) {
    cell.plain = take(cell.plain_bytes)
    cell.painted = take(cell.painted_bytes)
  }
  return head
}

async function decoded(bytes) {
  return bytes ? createImageBitmap(new Blob([bytes], { type: "image/jpeg" })) : null
}

// Where the picture lies in its cell: as large as fits, pushed to the side of its chest wall. `group` holds the sizes
// (millimetres, or pixels where the files say no spacing) of all pictures that must share one scale.
function placed(cell, group, width, height, place) {
  const scale = Math.min(...group.map(([w, h]) => Math.min(width / w, height / h))) * place.zoom
  const w = cell.size[0] * scale, h = cell.size[1] * scale
  const slack = { left: 0, right: width - w, center: (width - w) / 2 }[cell.align]
  return { x: slack + place.x, y: (height - h) / 2 + place.y, w, h }
}

function draw(canvas, cell, group, showHeat, place) {
  const ratio = window.devicePixelRatio || 1
  const width = canvas.clientWidth, height = canvas.clientHeight
  const picture = showHeat && cell.paintedBitmap ? cell.paintedBitmap : cell.plainBitmap
  if (!width || !height || !picture) return
  canvas.width = Math.round(width * ratio)
  canvas.height = Math.round(height * ratio)
  const context = canvas.getContext("2d")
  context.scale(ratio, ratio)
  context.imageSmoothingQuality = "high"
  const { x, y, w, h } = placed(cell, group, width, height, place)
  context.drawImage(picture, x, y, w, h)
}

function element(tag, className, text) {
  const made = document.createElement(tag)
  made.className = className
  if (text) made.textContent = text // never innerHTML: words come from files and people
  return made
}

function cellElement(cell) {
  const box = element("div", "cell")
  if (!cell.plain_bytes) {
    box.classList.add("empty")
    box.textContent = cell.label
    return box
  }
  const canvas = element("canvas", "")
  canvas.setAttribute("role", "img")
  canvas.setAttribute("aria-label", cell.label)
  const side = cell.align === "left" ? "right" : "left"
  box.append(canvas, element("div", `label ${side}`, cell.label))
  if (cell.note) box.append(element("div", `note ${side}`, cell.note))
  return box
}

function enlarge(root, cell, showsHeat) {
  const dialog = element("dialog", "")
  const box = cellElement({ ...cell, align: "center" })
  const close = element("button", "", "Back to all images (Esc)")
  dialog.append(box, close)
  root.append(dialog)
  const centred = { ...cell, align: "center" }
  const canvas = box.querySelector("canvas")
  const place = { x: 0, y: 0, zoom: 1 }
  const redraw = () => draw(canvas, centred, [cell.size], showsHeat(), place)
  canvas.onwheel = (event) => {
    event.preventDefault()
    const next = Math.min(12, Math.max(1, place.zoom * Math.exp(-event.deltaY * 0.0015)))
    const grow = next / place.zoom
    const dx = event.offsetX - canvas.clientWidth / 2, dy = event.offsetY - canvas.clientHeight / 2
    place.x = next === 1 ? 0 : dx - (dx - place.x) * grow
    place.y = next === 1 ? 0 : dy - (dy - place.y) * grow
    place.zoom = next
    redraw()
  }
  canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); canvas.classList.add("moving") }
  canvas.onpointerup = () => canvas.classList.remove("moving")
  canvas.onpointermove = (event) => {
    if (!canvas.classList.contains("moving")) return
    place.x += event.movementX
    place.y += event.movementY
    redraw()
  }
  close.onclick = () => dialog.close()
  dialog.onclose = () => dialog.remove()
  dialog.redraw = redraw
  dialog.showModal()
  redraw()
}

export default function (component) {
  const root = component.parentElement
  root.leaveViewer?.() // called again whenever the data change
  const grid = root.querySelector(".grid")
  const head = unpack(component.data)
  const state = { showHeat: true }
  const showsHeat = () => state.showHeat
  const still = { x: 0, y: 0, zoom: 1 }
  grid.style.setProperty("--columns", head.columns)
  grid.style.setProperty("--cell-height", head.cell_height)
  grid.style.setProperty("--cell-height-narrow", head.cell_height_narrow)
  const drawings = []
  const sizes = head.cells.filter((cell) => cell.plain_bytes).map((cell) => cell.size)
  const redrawAll = () => {
    drawings.forEach((drawOne) => drawOne())
    root.querySelectorAll("dialog").forEach((dialog) => dialog.redraw())
  }

  let gone = false
  Promise.all(head.cells.map(async (cell) => {
    cell.plainBitmap = await decoded(cell.plain)
    cell.paintedBitmap = await decoded(cell.painted)
  })).then(() => {
    if (gone) return
    grid.replaceChildren(...head.cells.map((cell) => {
      const box = cellElement(cell)
      const canvas = box.querySelector("canvas")
      if (!canvas) return box
      box.tabIndex = 0
      canvas.onclick = () => enlarge(root, cell, showsHeat)
      box.onkeydown = (event) => { if (event.key === "Enter" && event.target === box) enlarge(root, cell, showsHeat) }
      drawings.push(() => draw(canvas, cell, head.same_scale ? sizes : [cell.size], state.showHeat, still))
      return box
    }))
    grid.dataset.ready = "yes"
    redrawAll()
  })

  const isKnob = (target) => /^(checkbox|radio|range|button)$/.test(target.type)
  const typing = (target) =>
    target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName) || (target.tagName === "INPUT" && !isKnob(target))
  const onKey = (event) => {
    if (event.key !== "o" || event.ctrlKey || event.metaKey || event.altKey || typing(event.composedPath()[0])) return
    state.showHeat = !state.showHeat
    redrawAll()
  }
  document.addEventListener("keydown", onKey)
  const resized = new ResizeObserver(redrawAll)
  resized.observe(grid)
  root.leaveViewer = () => {
    gone = true
    document.removeEventListener("keydown", onKey)
    resized.disconnect()
    root.querySelectorAll("dialog").forEach((dialog) => dialog.remove())
  }
  return root.leaveViewer
}
