// Clips and stacks. Frames come one by one while they are wanted, the next ones ahead, and the furthest behind go again;
// a frame on which the reader rests is fetched in all its pixels.

const FRAMES_BYTES_MOST = 96 * 2 ** 20
const FETCHED_AT_ONCE = 4
const REST_MS = 350
const SPEEDS = [0.25, 0.5, 1, 2, 4]

class Cine {
  constructor(work, picture) {
    Object.assign(this, { work, picture, shown: picture.frame - 1, speed: 1, isPlaying: false, failure: "" })
    this.levels = new Map() // frame -> its levels, the finest first
    this.coming = new Set()
    this.abort = new AbortController()
  }

  get count() { return this.picture.clip.digests.length }
  get chosen() { return this.picture.frame - 1 }

  // What is drawn now: the picture itself on the frame that it shows, else the same picture with another frame.
  face() { return this.shown === this.chosen ? this.picture : this.faceOf(this.shown) }

  faceOf(frame) {
    const { picture } = this, words = (text) => text.replace(/frame \d+ of/, `frame ${frame + 1} of`)
    if (frame === this.chosen) return picture
    const id = `${fileOf(picture.id)}.${frame}`, levels = this.levels.get(frame) || null
    return Object.assign(Object.create(picture), { id, frame: frame + 1, levels, heat: null, heatLevel: null,
      failure: this.failure, label: words(picture.label), hung: words(picture.hung) })
  }

  show(frame) {
    const before = this.shown
    this.shown = Math.min(Math.max(frame, 0), this.count - 1)
    if (this.shown !== before) this.work.dropUnfinished(this.picture)
    this.failure = ""
    clearTimeout(this.resting)
    if (!this.isPlaying) this.resting = setTimeout(() => this.fetchWhole(this.shown), REST_MS)
    this.fetchNext()
    this.work.redraw()
  }

  step(by) {
    this.pause()
    this.show(this.shown + by)
  }

  play() {
    if (this.isPlaying || this.picture.clip.isStack) return
    this.isPlaying = true
    this.due = performance.now()
    this.fetchNext()
    this.tick(this.due)
    this.work.redraw()
  }

  pause() {
    if (!this.isPlaying) return
    this.isPlaying = false
    cancelAnimationFrame(this.waiting)
    this.show(this.shown)
  }

  toggle() { this.isPlaying ? this.pause() : this.play() }

  faster(by) {
    this.speed = SPEEDS[Math.min(Math.max(SPEEDS.indexOf(this.speed) + by, 0), SPEEDS.length - 1)]
    this.work.redraw()
  }

  // A frame that has not come yet is waited for: none is left out, and nothing pretends to be it.
  tick(now) {
    if (!this.work.front()?.cells.some((cell) => cell.picture === this.picture)) return this.pause()
    const next = (this.shown + 1) % this.count
    if (now >= this.due && (next === this.chosen || this.levels.has(next))) {
      this.due = Math.max(now, this.due + 1000 / (this.picture.clip.rate * this.speed))
      this.show(next)
    }
    this.waiting = requestAnimationFrame((then) => this.tick(then))
  }

  capacity() {
    const { width, height } = this.picture.clip
    return Math.max(8, Math.floor(FRAMES_BYTES_MOST / (width * height * (this.picture.colour ? 4 : 2))))
  }

  // The frames that are wanted, the next first; one on each side of where the reader rests.
  wanted() {
    const n = this.count, ahead = this.isPlaying ? Math.min(n - 1, this.capacity() - 2) : 2
    const found = Array.from({ length: ahead + 1 }, (_, by) => (this.shown + by) % n)
    if (!this.isPlaying) found.push((this.shown - 1 + n) % n)
    return found.filter((frame) => frame !== this.chosen && !this.levels.has(frame) && !this.coming.has(frame))
  }

  fetchNext() {
    for (const frame of this.wanted().slice(0, FETCHED_AT_ONCE - this.coming.size)) this.fetch(frame)
  }

  async fetch(frame, isWhole = false) {
    const { clip, colour, width, height } = this.picture
    const at = isWhole ? { width, height, step: 1 } : clip
    const level = { ...at, url: `${clip.url}/${frame}${isWhole ? "?whole=1" : ""}`, digest: clip.digests[frame] }
    const { signal } = this.abort
    if (!isWhole) this.coming.add(frame)
    try {
      const found = await loaded(level, colour, signal)
      const before = this.levels.get(frame)
      if (before && before[0].step < found.step) return
      if (before) releaseLevels(before)
      this.levels.set(frame, pyramid(found, colour))
      this.evict()
    } catch (error) {
      if (signal.aborted) return
      this.failure = `This frame did not arrive. ${error.message}`
      this.isPlaying = false
    } finally {
      this.coming.delete(frame)
    }
    if (!this.failure) this.fetchNext()
    if (frame === this.shown) this.work.redraw()
  }

  fetchWhole(frame) {
    const isCoarse = this.picture.clip.step > 1 && this.levels.get(frame)?.[0].step !== 1
    if (frame === this.shown && frame !== this.chosen && isCoarse && !this.isPlaying) this.fetch(frame, true)
  }

  evict() {
    const away = (frame) => (frame - this.shown + this.count) % this.count
    while (this.levels.size > this.capacity()) {
      const behind = [...this.levels.keys()].reduce((one, other) => (away(other) > away(one) ? other : one))
      releaseLevels(this.levels.get(behind))
      this.levels.delete(behind)
    }
  }

  choose() {
    const { imageId } = this.picture.clip
    this.pause()
    this.work.setStateValue?.("frame", { image: imageId, frame: this.shown, at: Date.now() })
  }

  forget() {
    this.isPlaying = false
    cancelAnimationFrame(this.waiting)
    clearTimeout(this.resting)
    this.abort.abort()
    this.abort = new AbortController()
    this.levels.forEach((levels) => releaseLevels(levels))
    this.levels.clear()
    this.coming.clear()
  }
}

const fileOf = (id) => id.slice(0, id.lastIndexOf("."))
const faceOf = (picture) => picture.cine ? picture.cine.face() : picture
const isOf = (id, picture) => id === picture.id || Boolean(picture.clip) && fileOf(id) === fileOf(picture.id)
const faceOfMark = (pictures, { id }) => {
  const picture = pictures.find((one) => isOf(id, one))
  return picture?.cine ? picture.cine.faceOf(Number(id.slice(id.lastIndexOf(".") + 1))) : picture
}

// Play, slider and speed at the foot of a cell.
function cineBar(picture) {
  const { cine } = picture, name = picture.label.replace(/, frame \d+ of \d+/, ""), bar = element("div", "cine")
  const slider = element("input"), place = element("span", "place")
  Object.assign(slider, { type: "range", min: 1, max: cine.count, step: 1 })
  slider.setAttribute("aria-label", `Frame of ${name}`)
  slider.oninput = () => cine.step(Number(slider.value) - 1 - cine.shown)
  const play = button("\u25b6", `Play ${name} (c)`, () => cine.toggle(), false)
  const speed = list(`Speed of ${name}`, SPEEDS.map((one) => [String(one), `${one} \u00d7`]), "1", (value) => {
    cine.speed = Number(value)
  })
  const choose = button("Read this frame", "The models read this frame", () => cine.choose())
  const before = button("\u2039", `Frame before of ${name} (left arrow)`, () => cine.step(-1))
  const after = button("\u203a", `Next frame of ${name} (right arrow)`, () => cine.step(1))
  bar.append(...(picture.clip.isStack ? [before, slider, after, place] : [play, before, slider, after, place, speed, choose]))
  bar.update = () => {
    slider.value = cine.shown + 1
    place.textContent = `${cine.shown + 1} / ${cine.count}`
    slider.setAttribute("aria-valuetext", `frame ${cine.shown + 1} of ${cine.count}`)
    play.textContent = cine.isPlaying ? "\u275a\u275a" : "\u25b6"
    play.setAttribute("aria-pressed", String(cine.isPlaying))
    speed.value = String(cine.speed)
    choose.hidden = !picture.clip.canChoose || cine.shown === cine.chosen
  }
  return bar
}
