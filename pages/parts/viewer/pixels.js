// Pixels from the server: 32 bytes of SHA-256, then a zlib stream of byte planes (see `packed` in __init__.py).

const TRIES_MS = [0, 400, 1500, 4000] // a rerun that was cut short may take a file away and bring it back

async function fetched(url, signal) {
  let refused
  for (const wait of TRIES_MS) {
    await new Promise((done) => setTimeout(done, wait))
    signal.throwIfAborted()
    try {
      const answer = await fetch(new URL(url, document.baseURI), { signal, credentials: "same-origin", cache: "no-store" })
      if (answer.ok) return new Uint8Array(await answer.arrayBuffer())
      refused = new Error(answer.status === 403 ? "You are signed out." : "The server does not give this picture.")
      if (answer.status === 403) break
    } catch (error) {
      if (signal.aborted) throw error
      refused = new Error("The server cannot be reached.")
    }
  }
  throw refused
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

// A level: {data, width, height, step}; data is Uint16Array for grey and Uint8Array of RGBA for colour.
async function loaded(level, isColour, signal) {
  const bytes = await fetched(level.url, signal)
  const digest = Array.from(bytes.subarray(0, 32), (byte) => byte.toString(16).padStart(2, "0")).join("")
  if (digest !== level.digest) throw new Error("The server sent another picture than was asked for.")
  const planes = await inflated(bytes.subarray(32))
  signal.throwIfAborted()
  const { width, height, step } = level
  return { data: (isColour ? colourOf : greyOf)(planes, width, height), width, height, step }
}

function greyOf(planes, width, height) {
  const count = width * height, data = new Uint16Array(count)
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0, value = 0; column < width; column++, at++) {
      value = (value + planes[at] + (planes[count + at] << 8)) & 0xffff
      data[at] = value
    }
  }
  return data
}

function colourOf(planes, width, height) {
  const count = width * height, data = new Uint8Array(4 * count).fill(255)
  for (let channel = 0; channel < 3; channel++) {
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0, value = 0; column < width; column++, at++) {
        value = (value + planes[channel * count + at]) & 0xff
        data[4 * at + channel] = value
      }
    }
  }
  return data
}

// The level with half the sides, each pixel the mean of four: what is drawn smaller is averaged, never skipped over.
function halved(level, isColour) {
  const width = (level.width + 1) >> 1, height = (level.height + 1) >> 1, n = isColour ? 4 : 1
  const from = level.data, data = new from.constructor(width * height * n)
  for (let row = 0, at = 0; row < height; row++) {
    const upper = 2 * row * level.width * n, lower = Math.min(2 * row + 1, level.height - 1) * level.width * n
    for (let column = 0; column < width; column++) {
      const left = 2 * column * n, right = Math.min(2 * column + 1, level.width - 1) * n
      for (let channel = 0; channel < n; channel++, at++) {
        data[at] = (from[upper + left + channel] + from[upper + right + channel] +
          from[lower + left + channel] + from[lower + right + channel] + 2) >> 2
      }
    }
  }
  return { data, width, height, step: level.step * 2 }
}

// The levels of one picture, the finest first, down to about the size of a thumbnail.
function pyramid(finest, isColour) {
  const levels = [finest]
  while (Math.max(levels.at(-1).width, levels.at(-1).height) > 400) levels.push(halved(levels.at(-1), isColour))
  return levels
}

// Which level to draw when one pixel of the screen covers `covered` pixels of the picture.
function levelFor(levels, covered) {
  return levels.findLast((level) => level.step <= Math.max(covered, 1) * 1.001) || levels[0]
}
