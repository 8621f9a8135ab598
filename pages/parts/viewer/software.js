// The plain canvas, where there is no graphics card: the same rule as the shader.
//
// A scene: {width, height (device pixels), level, most, isColour, low, span, isInverted, back (device pixel -> picture
// pixel, see geometry.js), size ([width, height] of the picture), heat (level or null), opacity, contour, hue, lowCut}.
//
// What lies under each pixel of the screen is sampled once for a place and zoom and held with the canvas; a window is a
// table over it, so that windowing costs one look-up a pixel. Pictures are only ever turned by quarters, so a column of
// the screen is one column or one row of the picture.

const heldSamples = new WeakMap() // canvas -> {key, level, values, inside, made, out, heat, attention}

function drawBySoftware(context, scene) {
  const held = samplesFor(context, scene), { out, values } = held, { width, isColour } = scene
  const { left, right, top, bottom } = held.inside, [red, green, blue] = windowTables(scene)
  for (let y = top; y < bottom; y++) {
    const end = y * width + right
    if (isColour) {
      for (let at = y * width + left; at < end; at++) {
        out[at] = red[values[3 * at]] | green[values[3 * at + 1]] | blue[values[3 * at + 2]]
      }
    } else for (let at = y * width + left; at < end; at++) out[at] = red[values[at]]
  }
  if (scene.heat) layHeat(out, held, scene)
  context.putImageData(held.made, 0, 0)
}

const greyTable = new Uint32Array(65536), colourTables = [0, 1, 2].map(() => new Uint32Array(256))

// Stored value -> the pixel that shows it: all of a grey one, or what one channel brings to a coloured one. Only values
// on the slope of the window are computed; below and above it is black and white.
function windowTables({ isColour, most, low, span, isInverted }) {
  const shown = (value) => {
    const part = Math.min(1, Math.max(0, (value / most - low) / span))
    return Math.round((isInverted ? 1 - part : part) * 255)
  }
  const filled = (table, parts) => {
    const limit = (value) => Math.min(Math.max(Math.ceil(value), 0), table.length)
    const from = limit(low * most), end = limit((low + span) * most)
    table.fill((0xff000000 | (shown(-Infinity) * parts)) >>> 0, 0, from)
    for (let value = from; value < end; value++) table[value] = 0xff000000 | (shown(value) * parts)
    table.fill((0xff000000 | (shown(Infinity) * parts)) >>> 0, end)
    return table
  }
  return isColour ? colourTables.map((table, channel) => filled(table, 1 << (8 * channel))) : [filled(greyTable, 0x010101)]
}

// One hue over the grey: strength 0 where attention is low.
function layHeat(out, held, { width, height, heat, opacity, contour, hue, lowCut, back }) {
  const { left, right, top, bottom } = held.inside
  if (held.heat !== heat) {
    held.attention = new Uint16Array(width * height)
    sample(heat, 1, back, width, held.inside, held.attention)
    held.heat = heat
  }
  const { attention } = held
  for (let y = top; y < bottom; y++) {
    for (let at = y * width + left; at < y * width + right; at++) {
      const strength = opacity * Math.min(1, Math.max(0, (attention[at] / 65535 - lowCut) / (1 - lowCut)))
      if (!strength) continue
      let colour = 0xff000000
      for (let channel = 0; channel < 3; channel++) {
        const shown = (out[at] >>> (8 * channel)) & 255
        colour |= Math.round(shown * (1 - strength) + hue[channel] * strength) << (8 * channel)
      }
      out[at] = colour
    }
  }
  if (contour > 0) drawContour(out, attention, 65535 * contour, width, held.inside, hue)
}

function drawContour(out, attention, contour, width, { left, right, top, bottom }, hue) {
  const line = (0xff000000 | (hue[2] << 16) | (hue[1] << 8) | hue[0]) >>> 0
  for (let y = top; y < bottom - 1; y++) {
    for (let at = y * width + left; at < y * width + right - 1; at++) {
      const above = attention[at] > contour
      if (above !== attention[at + 1] > contour || above !== attention[at + width] > contour) out[at] = line
    }
  }
}

function samplesFor(context, scene) {
  const { width, height, level, back, size, isColour } = scene
  const key = [width, height, ...back].join(" "), known = heldSamples.get(context.canvas)
  if (known && known.key === key && known.level === level) return known
  const isSameSize = known && known.made.width === width && known.made.height === height
  const made = isSameSize ? known.made : context.createImageData(width, height)
  const channels = isColour ? 3 : 1, n = width * height * channels
  const values = known?.values.length === n && isSameSize ? known.values : isColour ? new Uint8Array(n) : new Uint16Array(n)
  const inside = seen(back, size, width, height)
  sample(level, channels, back, width, inside, values)
  const held = { key, level, heat: null, values, inside, made, out: new Uint32Array(made.data.buffer).fill(0xff000000) }
  heldSamples.set(context.canvas, held)
  return held
}

// Of the screen, the pixels whose middle lies on the picture: half-open ranges.
function seen(back, size, width, height) {
  const across = along(back, 0), down = along(back, 1)
  const range = ({ slope, offset, axis }, n) => {
    const on = (at) => { const place = slope * (at + 0.5) + offset; return place >= 0 && place <= size[axis] }
    let first = 0, end = n
    while (first < n && !on(first)) first++
    while (end > first && !on(end - 1)) end--
    return [first, end]
  }
  const [left, right] = range(across, width), [top, bottom] = range(down, height)
  return { left, right, top, bottom }
}

// What a step along the screen (0 across, 1 down) is in the picture: its axis, by how much, and from where.
function along(back, direction) {
  const column = back[2 * direction], row = back[2 * direction + 1]
  return Math.abs(column) > Math.abs(row)
    ? { axis: 0, slope: column, offset: back[4] } : { axis: 1, slope: row, offset: back[5] }
}

// The values between the four nearest pixels, rounded, for every pixel of the screen that lies on the picture.
function sample(level, channels, back, width, inside, into) {
  const { data } = level, stride = channels === 3 ? 4 : 1 // colour is RGBA
  const columns = steps(along(back, 0), level, inside.left, inside.right)
  const rows = steps(along(back, 1), level, inside.top, inside.bottom)
  for (let y = inside.top; y < inside.bottom; y++) {
    const above = rows.first[y - inside.top], below = rows.second[y - inside.top], down = rows.part[y - inside.top]
    for (let x = inside.left; x < inside.right; x++) {
      const left = columns.first[x - inside.left], right = columns.second[x - inside.left]
      const part = columns.part[x - inside.left], at = (y * width + x) * channels
      for (let channel = 0; channel < channels; channel++) {
        const upper = data[stride * (left + above) + channel] * (1 - part) + data[stride * (right + above) + channel] * part
        const lower = data[stride * (left + below) + channel] * (1 - part) + data[stride * (right + below) + channel] * part
        into[at + channel] = Math.round(upper * (1 - down) + lower * down)
      }
    }
  }
}

// For pixels from..end of one side of the screen: the two neighbours along it, as offsets into the level, and the part
// of the second.
function steps({ axis, slope, offset }, level, from, end) {
  const n = Math.max(end - from, 0), most = (axis ? level.height : level.width) - 1, length = axis ? level.width : 1
  const first = new Int32Array(n), second = new Int32Array(n), part = new Float32Array(n)
  for (let index = 0; index < n; index++) {
    const place = Math.min(Math.max((slope * (from + index + 0.5) + offset) / level.step - 0.5, 0), most)
    const whole = Math.floor(place)
    first[index] = whole * length
    second[index] = Math.min(whole + 1, most) * length
    part[index] = place - whole
  }
  return { first, second, part }
}
