// The workplace of one study. It outlives the runs of the page: a run brings new data, which are laid over what the
// reader has set, and no element of the page is made anew for a picture that is already there.

const KINDS_OF_MARKS = Object.keys(POINTS_OF)
const REMEMBERED_TOOLS = ["distance", "angle"] // one that draws findings would mark the next patient by mistake
const RETAINED_MOST = 6
const LEAVING_MS = 8000
const workplaces = new Map() // key -> Workplace, the latest last; without pixels once they are off the screen

class Workplace {
  constructor(head) {
    this.head = head
    this.element = element("div", "workplace")
    this.pictures = []
    this.marks = []
    this.boards = []
    this.tool = "window"
    this.preset = "0"
    this.isInverted = this.hasLoupe = this.isSpaceDown = this.hasCross = false
    this.cross = null
    this.isHeated = this.isLinked = true
    this.opacity = head.opacity
    this.contour = 0
    this.update(head, true)
    this.page = new Board(this, false)
    this.boards.push(this.page)
    this.element.append(this.page.element)
    this.page.toStage(0)
    this.recall()
  }

  // Tool, window and hanging as this person had them last in this browser; nothing of a study is stored.
  recall() {
    const { remembers } = this.head
    if (!remembers) return
    let had = {}
    try { had = JSON.parse(localStorage.getItem(`secondread viewer ${remembers}`)) || {} } catch { /* none, or not ours */ }
    if (REMEMBERED_TOOLS.includes(had.tool)) this.tool = had.tool
    const preset = Number(had.preset)
    if (Number.isInteger(preset) && preset > 0 && preset < 5) this.choosePreset(preset)
    const at = this.head.stages.findIndex((stage) => stage.name === had.stage)
    if (at > 0) this.page.toStage(at)
    this.isRecalled = true
    this.changed()
  }

  remember() {
    const { remembers } = this.head
    if (!remembers || !this.isRecalled) return
    const had = JSON.stringify({ tool: this.tool, preset: this.preset, stage: this.page.stageName })
    try { localStorage.setItem(`secondread viewer ${remembers}`, had) } catch { /* the browser stores nothing */ }
  }

  // New data over what is there: pictures by their id, so that window, turn, zoom and marks stay.
  update(head, isFirst = false) {
    const name = (picture) => `${picture.isPrior} ${keyOf(picture)}`
    const before = new Map(this.pictures.map((picture) => [name(picture), picture]))
    if (head.opacity !== this.head.opacity) this.opacity = head.opacity
    const isHungAnew = head.hanging !== this.head.hanging
    this.head = head
    this.pictures = head.pictures.map((sent) => this.updated(before.get(name(sent)), sent))
    const now = new Set(this.pictures)
    for (const picture of before.values()) if (!now.has(picture)) this.release(picture)
    this.adopt(head.marking)
    this.marks = this.marks.filter((mark) => this.pictures.some((picture) => isOf(mark.id, picture)))
    if (!isFirst) {
      for (const board of this.boards) {
        const at = head.stages.findIndex((stage) => stage.name === board.stageName)
        if (isHungAnew) board.toStage(0)
        else if (at >= 0 && JSON.stringify(head.stages[at]) === board.shape) {
          board.stageIndex = at
          board.cells.forEach((cell, place) => {
            if (cell.picture) cell.picture = this.pictures[head.stages[at].places[place][0]]
          })
        } else board.toStage(Math.max(at, 0))
      }
    }
    this.load()
    this.changed()
  }

  // The page's own marks replace these when it has changed them, but for those that it has not seen yet: they are being
  // drawn, or are on their way to it (`send`).
  adopt(marking) {
    const isSameForm = this.adopted?.of === marking?.of
    if (!isSameForm) this.seen = new Set()
    for (const { uid } of marking?.marks || []) this.seen.add(uid)
    if (isSameForm && this.adopted?.revision === marking?.revision) return
    this.adopted = marking && { of: marking.of, revision: marking.revision }
    const stay = this.marks.filter((mark) => this.isOnPrior(mark) || (isSameForm && !this.seen.has(mark.uid)))
    this.marks = [...(marking ? structuredClone(marking.marks) : []), ...stay]
  }

  send() {
    const { marking } = this.head
    if (!marking) return
    const own = this.marks.filter((mark) => !isOpen(mark) && !this.isOnPrior(mark))
    const marks = own.map(({ uid, id, kind, points }) => ({ uid, id, kind, points }))
    this.setStateValue?.("marks", { of: marking.of, revision: this.adopted.revision, marks })
  }

  isOnPrior(mark) { return this.pictures.some((picture) => picture.isPrior && isOf(mark.id, picture)) }

  labelOf(mark) { return mark.label || this.head.marking?.labels[mark.uid] || "" }

  // What belongs to a described finding is taken away where it is described.
  withoutMeasurements(marks) { return marks.filter((mark) => this.head.marking?.described.includes(mark.uid)) }

  updated(known, sent) {
    if (!known) {
      const made = { ...sent, turn: hungTurn(sent), center: sent.presets[0][1], span: sent.presets[0][2], levels: null,
        heatLevel: null, failure: "", abort: new AbortController() }
      if (made.clip) made.cine = new Cine(this, made)
      return made
    }
    const isReadAnew = known.sentLevels.at(-1).digest !== sent.sentLevels.at(-1).digest
    if (known.id !== sent.id || isReadAnew) { // another frame of the clip is the one that is read, or in another way
      this.release(known)
      if (known.cine) known.cine.shown = sent.frame - 1
    }
    if (known.id === sent.id && isReadAnew) [, known.center, known.span] = sent.presets[0]
    const wasHungSo = known.mirrored === sent.mirrored
    if (known.heat && known.heat.digest !== sent.heat?.digest) {
      if (known.heatLevel) releaseLevels([known.heatLevel])
      known.heatLevel = null
    }
    Object.assign(known, sent)
    if (!wasHungSo) known.turn = hungTurn(sent)
    return known
  }

  // First a small picture of every view, then the whole ones, two at a time; heat maps as they come.
  async load() {
    const turn = (this.loading = Symbol("loading"))
    delete this.page?.grid.dataset.whole  // the first load begins before the grid is made
    const isOver = () => this.loading !== turn
    const one = async (picture, level) => {
      if (picture.levels && picture.levels[0].step <= level.step) return
      try {
        const finest = await loaded(level, picture.colour, picture.abort.signal)
        if (picture.levels && picture.levels[0].step <= finest.step) return
        if (picture.levels) releaseLevels(picture.levels)
        picture.levels = pyramid(finest, picture.colour)
        picture.failure = ""
      } catch (error) {
        if (picture.abort.signal.aborted) return
        picture.failure = picture.levels ? "" : `This picture did not arrive. ${error.message} Reload the page.`
      }
      this.redraw()
    }
    const heat = async (picture) => {
      if (!picture.heat || picture.heatLevel) return
      const { digest } = picture.heat
      try {
        const level = await loaded(picture.heat, false, picture.abort.signal)
        if (picture.heat?.digest === digest) picture.heatLevel = level
      } catch (error) {
        if (!picture.abort.signal.aborted) picture.failure = `The heat map did not arrive. ${error.message}`
      }
      this.redraw()
    }
    const heats = this.pictures.map(heat)
    await Promise.all(this.pictures.map((picture) => one(picture, picture.levels_first())))
    if (isOver()) return
    this.page.drawNow()
    this.page.grid.dataset.ready = "yes"
    const rest = this.pictures.filter((picture) => picture.sentLevels.length > 1)
    await Promise.all([0, 1].map(async () => {
      for (let next; !isOver() && (next = rest.shift());) await one(next, next.sentLevels.at(-1))
    }))
    await Promise.all(heats)
    if (isOver()) return
    this.page.drawNow()
    this.page.grid.dataset.whole = "yes"
  }

  release(picture) {
    picture.cine?.forget()
    picture.abort.abort()
    releaseLevels([...(picture.levels || []), ...(picture.heatLevel ? [picture.heatLevel] : [])])
    Object.assign(picture, { levels: null, heatLevel: null, abort: new AbortController() })
  }

  // Off the screen: the pixels go, what the reader has set stays for when he comes back.
  sleep() {
    this.loading = null
    this.isAsleep = true
    this.pictures.forEach((picture) => this.release(picture))
    delete this.page.grid.dataset.ready
    delete this.page.grid.dataset.whole
  }

  rowHeight(which) {
    const { places, columns } = this.head.stages[0]
    return `calc(${Math.min(Math.ceil(places.length / columns), 2)} * ${this.head.cellHeight[which]})`
  }

  windowNames() {
    const first = this.pictures[0]
    return first ? [...first.presets, ...first.windows].map(([name]) => name) : []
  }

  canCross() { return this.pictures.some(({ front, hasSpacing }) => front && hasSpacing) }

  canLink() { return this.head.stages[0].places.filter(([index, , align]) => index !== null && align !== "center").length > 1 }

  front() { return this.boards.at(-1) }

  set(what) {
    Object.assign(this, what)
    this.changed()
  }

  // Each picture by its own range; the file's windows by their number in each file that has so many.
  choosePreset(index) {
    if (index >= this.windowNames().length) return
    for (const picture of this.pictures) {
      const found = [...picture.presets, ...picture.windows][index]
      if (found) [, picture.center, picture.span] = found
    }
    this.set({ preset: String(index) })
  }

  // Across is contrast, up is brighter. All pictures of the study together, each in the measure of its own window.
  windowBy(picture, dx, dy, isAlone) {
    for (const one of isAlone ? [picture] : this.pictures) {
      one.center = Math.min(1.5, Math.max(-0.5, one.center + (dy * one.span) / 400))
      one.span = Math.min(4, Math.max(0.01, one.span * Math.exp(dx * 0.004)))
    }
    const isNews = this.preset !== ""
    this.preset = ""
    if (isNews) this.changed()
    else this.redraw()
  }

  chooseTool(tool) {
    for (const board of this.boards) for (const cell of board.cells) board.dropCursor(cell)
    this.marks = this.marks.filter((mark) => !isOpen(mark))
    this.set({ tool: this.tool === tool ? "window" : tool })
  }

  // What was begun on one frame of a clip is not finished on another.
  dropUnfinished(picture) {
    const begun = new Set(this.marks.filter((mark) => isOpen(mark) && isOf(mark.id, picture)))
    for (const board of this.boards) for (const cell of board.cells) if (cell.picture === picture) begun.add(cell.drawn)
    this.marks = this.marks.filter((mark) => !begun.has(mark))
  }

  act(name, board) {
    const cell = board.active
    if (KINDS_OF_MARKS.includes(name)) this.chooseTool(name)
    else if (name === "invert") this.set({ isInverted: !this.isInverted })
    else if (name === "loupe") this.set({ hasLoupe: !this.hasLoupe })
    else if (name === "cross") this.set({ hasCross: !this.hasCross && this.canCross(), cross: null })
    else if (name === "link") this.set({ isLinked: !this.isLinked })
    else if (name === "overlay") this.set({ isHeated: !this.isHeated })
    else if (name === "fainter") this.set({ opacity: Math.max(0, Math.round(this.opacity * 10 - 1) / 10) })
    else if (name === "stronger") this.set({ opacity: Math.min(1, Math.round(this.opacity * 10 + 1) / 10) })
    else if (name === "contour") this.set({ contour: CONTOURS[(CONTOURS.indexOf(this.contour) + 1) % CONTOURS.length] })
    else if (name === "undo" || name === "clear") {
      const described = this.withoutMeasurements(this.marks), free = this.marks.filter((mark) => !described.includes(mark))
      this.set({ marks: name === "clear" ? described : this.marks.filter((mark) => mark !== free.at(-1)) })
      this.send()
    }
    else if (name === "play") cell?.picture.cine?.toggle()
    else if (name === "slower" || name === "faster") cell?.picture.cine?.faster(name === "faster" ? 1 : -1)
    else if (name === "previous") board.toStage(board.stageIndex - 1)
    else if (name === "next") board.toStage(board.stageIndex + 1)
    else if (name === "reset") this.reset(board)
    else if (name === "whole") this.enlarge()
    else if (name === "leave") this.dialog?.close()
    else if (name === "help") this.help(board)
    else if (cell) this.actOn(cell, name, board)
  }

  actOn(cell, name, board) {
    const { picture } = cell
    if (name === "fit") board.move(cell, { ...WHOLE })
    else if (name === "real") board.real(cell)
    else if (name === "nearer" || name === "further") board.zoomBy(cell, name === "nearer" ? KEY_ZOOM : 1 / KEY_ZOOM)
    else {
      picture.turn = { across: flippedAcross, down: flippedDown, turn: turnedRight }[name](picture.turn)
      this.changed()
    }
  }

  reset(board) {
    for (const picture of this.pictures) {
      picture.turn = hungTurn(picture)
      ;[, picture.center, picture.span] = picture.presets[0]
    }
    board.linked = { ...WHOLE }
    board.own.clear()
    this.set({ preset: "0", isInverted: false, hasLoupe: false, hasCross: false, opacity: this.head.opacity, contour: 0, isHeated: true })
  }

  help(board) {
    if (!this.element.querySelector("dialog.keys")) showKeys(board)
  }

  // One picture, or the hanging of the page, in the whole window; Escape returns.
  enlarge(picture = null) {
    if (this.dialog) return
    const dialog = (this.dialog = element("dialog", "whole")), board = new Board(this, true)
    const stages = this.head.stages
    dialog.setAttribute("aria-label", "Pictures in the whole window")
    dialog.append(board.element)
    this.boards.push(board)
    this.element.append(dialog)
    dialog.onclose = () => {
      board.leave()
      this.boards = this.boards.filter((one) => one !== board)
      this.dialog = null
      dialog.remove()
      this.changed()
    }
    dialog.showModal()
    const alone = stages.findIndex(({ places }) => places.length === 1 && this.pictures[places[0][0]] === picture)
    board.toStage(picture ? Math.max(alone, 0) : this.page.stageIndex)
    board.active?.box.focus()
  }

  redraw() { this.front()?.redraw() } // what lies under the whole window is drawn when that closes

  changed() {
    this.element.classList.toggle("measuring", this.tool !== "window")
    for (const board of this.boards) {
      board.stageName = board.stage.name
      if (this.head.hasTools) fillToolbar(board.bar, board)
      board.redraw()
    }
    this.remember()
  }
}

// `levels` holds what is there, `sentLevels` what the server offers.
function received(head) {
  for (const picture of head.pictures) {
    picture.sentLevels = picture.levels
    delete picture.levels
    picture.levels_first = function () { return this.sentLevels[0] }
  }
  return head
}

export default function (component) {
  const root = component.parentElement, head = received(structuredClone(component.data))
  let work = workplaces.get(head.key)
  if (work) {
    clearTimeout(work.leaving)
    work.isAsleep = false
    work.update(head)
    workplaces.delete(head.key)
  } else work = new Workplace(head)
  workplaces.set(head.key, work)
  while (workplaces.size > RETAINED_MOST) {
    const [oldest, other] = workplaces.entries().next().value
    other.sleep()
    workplaces.delete(oldest)
  }
  const place = root.querySelector(".viewer")
  if (work.element.parentNode !== place) place.replaceChildren(work.element)
  if (head.hasTools) hear(work)
  work.root = root
  work.setStateValue = component.setStateValue
  work.changed()
  return () => {
    if (work.root !== root) return // it was put elsewhere before it was taken away here
    if (keysOf === work) keysOf = null
    work.dialog?.close()
    work.leaving = setTimeout(() => work.sleep(), LEAVING_MS) // the page may only be putting us elsewhere
  }
}
