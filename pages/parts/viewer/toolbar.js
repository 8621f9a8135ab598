// Everything that keys can do is a button or a list too, each with a name.

function element(tag, className, text) {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text) made.textContent = text // never innerHTML: words come from files and people
  return made
}

// What the mouse's left button does; the first is what it does at a workplace.
const TOOLS = [
  ["window", "Window"], ["distance", "Distance"], ["angle", "Angle"], ["ellipse", "Ellipse"], ["outline", "Outline"],
  ["point", "Point"],
]
const CONTOURS = [0, 0.3, 0.5, 0.7]

// Keys as they are written in the table, and what they do. docs/reading.md names the same.
const KEYS = [
  ["Left drag", "window: across is contrast, up and down is brightness"],
  ["Middle drag, Space + drag", "move"],
  ["Right drag, Wheel", "zoom; the wheel at the pointer"],
  ["+ -", "nearer and further, at the pointer"],
  ["Arrows, Shift + arrows", "on a picture: window; move"],
  ["Double click, Enter", "this picture in the whole window; Escape returns"],
  ["Two fingers", "zoom and move"],
  ["1 \u2026 5", "window presets"],
  ["6 \u2026 9", "the file's other windows"],
  ["i", "invert"],
  ["h v", "flip left to right, top to bottom"],
  ["r", "turn by 90\u00b0"],
  ["f", "one picture pixel for one of the screen"],
  ["=", "fit"],
  ["m", "magnifying glass"],
  ["x", "cross-hair: how far behind the front of the breast, in each view of it"],
  ["l", "zoom and move the views together, or each alone"],
  [", .", "previous and next hanging"],
  ["w", "the hanging in the whole window"],
  ["c", "play a clip, pause it"],
  ["← →, Wheel", "frame before and after, on a clip or a stack; there Shift + wheel zooms"],
  ["Page Up, Page Down, Home, End", "ten frames back and on, first and last frame"],
  ["< >", "play slower, faster"],
  ["o", "heat map off and on"],
  ["[ ]", "heat map fainter, stronger"],
  ["k", "contour of the heat map"],
  ["d a e t p", "measure a distance, an angle, an ellipse, an outline; mark a point"],
  ["Enter, arrows", "with one of these: a cursor on the picture, Shift by one pixel; Enter sets a point, twice ends an outline"],
  ["Delete", "take the last measurement away, but no described finding"],
  ["Space", "everything as at the beginning, but the measurements"],
  ["?", "this table"],
]

function list(name, options, chosen, pick) {
  const made = element("select")
  made.setAttribute("aria-label", name)
  made.title = name
  made.append(...options.map(([value, words]) => {
    const option = element("option", "", words)
    option.value = value
    return option
  }))
  made.value = chosen
  made.onchange = () => pick(made.value)
  return made
}

function button(words, name, act, isPressed) {
  const made = element("button", "", words)
  made.type = "button"
  made.title = name
  made.setAttribute("aria-label", name)
  if (isPressed !== undefined) made.setAttribute("aria-pressed", String(isPressed))
  made.onclick = act
  return made
}

function group(name, ...parts) {
  const made = element("div", "group")
  made.setAttribute("role", "group")
  made.setAttribute("aria-label", name)
  made.append(...parts.filter(Boolean))
  return made
}

// Drawn anew after each act, and what had the focus has it again.
function fillToolbar(bar, board) {
  const focused = bar.getRootNode().activeElement, name = bar.contains(focused) ? focused.getAttribute("aria-label") : ""
  bar.replaceChildren(...toolbarParts(board))
  if (name) [...bar.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label") === name)?.focus()
}

function toolbarParts(board) {
  const { work } = board, { head } = work
  const stages = head.stages.map((stage, index) => [String(index), stage.name])
  const windows = work.windowNames().map((name, index) => [String(index), index < 9 ? `${index + 1} ${name}` : name])
  const act = (name) => () => work.act(name, board)
  const parts = [
    stages.length > 1 && group("Hanging",
      button("\u2039", "Previous hanging (,)", act("previous")),
      list("Hanging", stages, String(board.stageIndex), (value) => board.toStage(Number(value))),
      button("\u203a", "Next hanging (.)", act("next"))),
    group("Grey levels",
      list("Window", [...windows, ["", "Own window"]], work.preset, (value) => value && work.choosePreset(Number(value))),
      button("Invert", "Invert (i)", act("invert"), work.isInverted)),
    group("Left mouse button", ...TOOLS.map(([tool, words]) =>
      button(words, `Left drag: ${words.toLowerCase()}`, () => work.chooseTool(tool), work.tool === tool)),
      work.marks.length > 0 && button("Clear", "Take all measurements away, but no described finding", act("clear"))),
    group("View",
      button("Fit", "Fit (=)", act("fit")), button("1:1", "One picture pixel for one of the screen (f)", act("real")),
      button("Glass", "Magnifying glass (m)", act("loupe"), work.hasLoupe),
      button("\u2194", "Flip left to right (h)", act("across")), button("\u2195", "Flip top to bottom (v)", act("down")),
      button("\u21bb", "Turn by 90 degrees (r)", act("turn")),
      work.canCross() && button("Cross", "Cross-hair in each view of the breast (x)", act("cross"), work.hasCross),
      work.canLink() && button("Linked", "Zoom and move the views together (l)", act("link"), work.isLinked),
      button("Reset", "Everything as at the beginning (Space)", act("reset"))),
  ]
  if (head.pictures.some((picture) => picture.heat)) {
    parts.push(group("Heat map",
      button("Heat map", "Heat map off and on (o)", act("overlay"), work.isHeated),
      button("\u2212", "Fainter ([)", act("fainter")), element("span", "value", `${Math.round(work.opacity * 100)} %`),
      button("+", "Stronger (])", act("stronger")),
      list("Contour of the heat map", CONTOURS.map((level) =>
        [String(level), level ? `Contour ${level * 100} %` : "No contour"]), String(work.contour),
        (value) => work.set({ contour: Number(value) }))))
  }
  const isWhole = board.isWhole
  parts.push(group("Window and help",
    isWhole ? button("Back (Esc)", "Back to the page (Escape)", act("leave"))
      : button("Whole window", "This hanging in the whole window (w)", act("whole")),
    button("?", "Table of keys (?)", act("help"))))
  return parts.filter(Boolean)
}

function showKeys(board) {
  const dialog = element("dialog", "keys"), table = element("table"), close = button("Close", "Close", () => dialog.close())
  for (const [keys, does] of KEYS) {
    const row = table.insertRow(), head = element("th", "", keys)
    head.scope = "row"
    row.append(head, element("td", "", does))
  }
  dialog.setAttribute("aria-label", "Keys and mouse")
  dialog.append(element("h2", "", "Keys and mouse"), table, close)
  dialog.onclose = () => dialog.remove()
  board.work.element.append(dialog)
  dialog.showModal()
}
