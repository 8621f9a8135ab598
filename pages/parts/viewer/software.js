// The plain canvas, where there is no WebGL2: the same rule as the shader, pixel by pixel.
//
// A scene: {width, height (device pixels), level, most, isColour, low, span, isInverted, back (device pixel -> picture
// pixel, see geometry.js), size ([width, height] of the picture), heat (level or null), opacity, contour, hue, lowCut}.

function drawBySoftware(context, scene) {
  const { width, height, level, heat, back } = scene
  const made = context.createImageData(width, height), out = new Uint32Array(made.data.buffer)
  const grey = new Float64Array(3), contourOf = heat && scene.contour > 0 ? new Float32Array(width * height) : null
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const column = back[0] * (x + 0.5) + back[2] * (y + 0.5) + back[4]
      const row = back[1] * (x + 0.5) + back[3] * (y + 0.5) + back[5]
      if (column < 0 || row < 0 || column > scene.size[0] || row > scene.size[1]) {
        out[at] = 0xff000000
        continue
      }
      sampled(level, column / level.step, row / level.step, scene.isColour, grey)
      let strength = 0
      if (heat) {
        const value = heatAt(heat, column, row)
        strength = scene.opacity * Math.min(1, Math.max(0, (value - scene.lowCut) / (1 - scene.lowCut)))
        if (contourOf) contourOf[at] = value - scene.contour
      }
      let colour = 0xff000000
      for (let channel = 0; channel < 3; channel++) {
        let shown = Math.min(1, Math.max(0, (grey[channel] / scene.most - scene.low) / scene.span))
        if (scene.isInverted) shown = 1 - shown
        shown = shown * 255 * (1 - strength) + scene.hue[channel] * strength
        colour |= Math.round(shown) << (8 * channel)
      }
      out[at] = colour
    }
  }
  if (contourOf) drawContour(out, contourOf, width, height, scene.hue)
  context.putImageData(made, 0, 0)
}

function drawContour(out, above, width, height, hue) {
  const line = 0xff000000 | (hue[2] << 16) | (hue[1] << 8) | hue[0]
  for (let at = 0; at < width * (height - 1) - 1; at++) {
    if (above[at] > 0 !== above[at + 1] > 0 || above[at] > 0 !== above[at + width] > 0) out[at] = line >>> 0
  }
}

// The value between the four nearest pixels; (column, row) as lengths, 0 at the outer edge of the first pixel.
function sampled(level, column, row, isColour, into) {
  const { data, width, height } = level
  const x = Math.min(Math.max(column - 0.5, 0), width - 1), y = Math.min(Math.max(row - 0.5, 0), height - 1)
  const left = Math.floor(x), top = Math.floor(y), right = Math.min(left + 1, width - 1)
  const upper = top * width, lower = Math.min(top + 1, height - 1) * width, across = x - left, down = y - top
  for (let channel = 0; channel < 3; channel++) {
    const of = (index) => isColour ? data[4 * index + channel] : data[index]
    const above = of(upper + left) * (1 - across) + of(upper + right) * across
    const below = of(lower + left) * (1 - across) + of(lower + right) * across
    into[channel] = above * (1 - down) + below * down
    if (!isColour) into[1] = into[2] = into[0]
    if (!isColour) return
  }
}

const heatSample = new Float64Array(3)
function heatAt(heat, column, row) {
  sampled(heat, column / heat.step, row / heat.step, false, heatSample)
  return heatSample[0] / 65535
}
