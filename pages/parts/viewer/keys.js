// Keys of the workplace that was drawn last. Nothing is taken from somebody who types, and what is taken never reaches
// Streamlit, whose own `r` would run the page again and `c` empty its cache.

const ACTS = {
  i: "invert", h: "across", v: "down", r: "turn", f: "real", "=": "fit", m: "loupe", l: "link", ",": "previous",
  ".": "next", w: "whole", o: "overlay", "[": "fainter", "]": "stronger", k: "contour", d: "distance", a: "angle",
  e: "ellipse", t: "outline", p: "point", x: "cross", c: "play", "<": "slower", ">": "faster", "+": "nearer", "-": "further", Delete: "undo", Backspace: "undo", "?": "help",
}

let keysOf = null // the workplace that has the keys
let areKeysHeard = false

const isKnob = (target) => /^(checkbox|radio|range|button|submit)$/.test(target.type)
const isTyping = (target) => target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName) ||
  (target.tagName === "INPUT" && !isKnob(target))

function hear(work) {
  keysOf = work
  if (areKeysHeard) return
  areKeysHeard = true
  window.addEventListener("keydown", onKeyDown, { capture: true })
  window.addEventListener("keyup", onKeyUp, { capture: true })
  window.addEventListener("blur", () => { if (keysOf) keysOf.isSpaceDown = false })
}

function isOurs(event) {
  const target = event.composedPath()[0]
  if (!keysOf || event.ctrlKey || event.metaKey || event.altKey || isTyping(target)) return false
  if (document.querySelector('[role="dialog"]')) return false // a dialog of the page lies over the pictures
  const isInside = event.composedPath().includes(keysOf.element)
  if (event.key === " ") return isInside ? target.tagName !== "BUTTON" : target === document.body
  if (event.key === "Backspace" || event.key === "Delete") return isInside || target === document.body
  return true
}

const FRAME_KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e6, End: 1e6 }

// The clip that the keys of frames are for; a slider or a list has its own use for them.
function clipFor(event) {
  const target = event.composedPath()[0], isSlider = target.tagName === "INPUT" && target.type === "range"
  return Object.hasOwn(FRAME_KEYS, event.key) && !isSlider ? keysOf.front()?.active?.picture.cine : null
}

function arrowIsUsed(event) {
  const board = keysOf.front(), cell = board?.focusedCell()
  return Boolean(cell) && board.arrow(cell, event)
}

function taken(event) {
  event.preventDefault()
  event.stopImmediatePropagation()
}

function onKeyDown(event) {
  if (!isOurs(event)) return
  if (event.key === " ") {
    taken(event)
    if (!event.repeat) Object.assign(keysOf, { isSpaceDown: true, hasDragged: false })
  } else if (/^[1-9]$/.test(event.key)) {
    taken(event)
    if (!event.repeat) keysOf.choosePreset(Number(event.key) - 1)
  } else if (Object.hasOwn(ARROWS, event.key) && arrowIsUsed(event)) {
    taken(event)
  } else if (clipFor(event)) {
    taken(event)
    clipFor(event).step(FRAME_KEYS[event.key])
  } else if (Object.hasOwn(ACTS, event.key)) {
    taken(event)
    keysOf.act(ACTS[event.key], keysOf.front())
  }
}

// Space without a drag resets; after one it has only moved the picture.
function onKeyUp(event) {
  if (event.key === " " && keysOf?.isSpaceDown) {
    taken(event)
    keysOf.isSpaceDown = false
    if (!keysOf.hasDragged) keysOf.act("reset", keysOf.front())
  } else if (isOurs(event) && Object.hasOwn(ACTS, event.key)) {
    taken(event)
  }
}
