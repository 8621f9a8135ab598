// WebGL2: one hidden canvas draws every picture of the page in turn, and each cell copies what it needs.
//
// Grey is a texture of unsigned 16-bit numbers, so window and level see the full depth; the interpolation between
// pixels is written out, because whole numbers are not filtered by the graphics card.

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2((gl_VertexID << 1) & 2, gl_VertexID & 2) * 2.0 - 1.0, 0.0, 1.0); }`

const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D pixels, heat;
uniform vec3 toColumn, toRow;
uniform vec2 size;
uniform float height, step, heatStep, most, low, span, opacity, contour, lowCut;
uniform vec3 hue;
uniform bool isColour, isInverted, isHeated;
out vec4 colour;

vec3 texel(usampler2D from, ivec2 place) {
  uvec4 value = texelFetch(from, clamp(place, ivec2(0), textureSize(from, 0) - 1), 0);
  return vec3(value.rgb);
}
vec3 between(usampler2D from, vec2 place) {
  vec2 corner = floor(place - 0.5), part = place - 0.5 - corner;
  ivec2 first = ivec2(corner);
  vec3 above = mix(texel(from, first), texel(from, first + ivec2(1, 0)), part.x);
  vec3 below = mix(texel(from, first + ivec2(0, 1)), texel(from, first + ivec2(1, 1)), part.x);
  return mix(above, below, part.y);
}
void main() {
  vec3 here = vec3(gl_FragCoord.x, height - gl_FragCoord.y, 1.0);
  vec2 place = vec2(dot(toColumn, here), dot(toRow, here));
  float attention = isHeated ? between(heat, place / heatStep).r / 65535.0 : 0.0;
  float slope = fwidth(attention); // before any branch: neighbours must all be there
  if (any(lessThan(place, vec2(0.0))) || any(greaterThan(place, size))) { colour = vec4(0.0, 0.0, 0.0, 1.0); return; }
  vec3 value = between(pixels, place / step);
  value = isColour ? value : value.rrr;
  vec3 shown = clamp((value / most - low) / span, 0.0, 1.0);
  shown = isInverted ? 1.0 - shown : shown;
  if (isHeated) {
    shown = mix(shown, hue, opacity * clamp((attention - lowCut) / (1.0 - lowCut), 0.0, 1.0));
    if (contour > 0.0 && abs(attention - contour) < slope) shown = hue;
  }
  colour = vec4(shown, 1.0);
}`

// WebGL without a graphics card computes every pixel anew for each window: the plain canvas is many times faster.
const IS_NO_CARD = /swiftshader|llvmpipe|softpipe|software|basic render/i

class Shader {
  // Throws where there is no WebGL2 or the program is refused; whoever asks then draws by software.
  constructor() {
    this.canvas = document.createElement("canvas")
    const options = { alpha: false, antialias: false, depth: false, preserveDrawingBuffer: true }
    const gl = (this.gl = this.canvas.getContext("webgl2", options))
    if (!gl) throw new Error("no WebGL2")
    const named = gl.getExtension("WEBGL_debug_renderer_info")
    if (named && IS_NO_CARD.test(gl.getParameter(named.UNMASKED_RENDERER_WEBGL))) {
      gl.getExtension("WEBGL_lose_context")?.loseContext()
      throw new Error("no graphics card")
    }
    this.isLost = false
    this.canvas.addEventListener("webglcontextlost", () => { this.isLost = true })
    this.most = gl.getParameter(gl.MAX_TEXTURE_SIZE)
    this.textures = new Map()
    const program = gl.createProgram()
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const part = gl.createShader(kind)
      gl.shaderSource(part, source)
      gl.compileShader(part)
      gl.attachShader(program, part)
    }
    gl.linkProgram(program)
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "no program")
    gl.useProgram(program)
    gl.bindVertexArray(gl.createVertexArray())
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1)
    this.places = new Map()
    this.place = (name) => {
      if (!this.places.has(name)) this.places.set(name, gl.getUniformLocation(program, name))
      return this.places.get(name)
    }
  }

  fits(level) { return !this.isLost && Math.max(level.width, level.height) <= this.most }

  texture(level, isColour) {
    const gl = this.gl
    if (this.textures.has(level)) return this.textures.get(level)
    const made = gl.createTexture()
    gl.bindTexture(gl.TEXTURE_2D, made)
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE)
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST)
    }
    const [inner, format, type] = isColour
      ? [gl.RGBA8UI, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE] : [gl.R16UI, gl.RED_INTEGER, gl.UNSIGNED_SHORT]
    gl.texImage2D(gl.TEXTURE_2D, 0, inner, level.width, level.height, 0, format, type, level.data)
    this.textures.set(level, made)
    return made
  }

  release(level) {
    this.gl.deleteTexture(this.textures.get(level) || null)
    this.textures.delete(level)
  }

  draw(context, scene) {
    const { gl, canvas, place } = this
    const { width, height, level, heat, back } = scene
    if (canvas.width < width || canvas.height < height) {
      canvas.width = Math.max(canvas.width, width)
      canvas.height = Math.max(canvas.height, height)
    }
    gl.viewport(0, 0, width, height)
    const first = this.texture(level, scene.isColour), second = heat ? this.texture(heat, false) : first
    gl.activeTexture(gl.TEXTURE1)
    gl.bindTexture(gl.TEXTURE_2D, second)
    gl.activeTexture(gl.TEXTURE0)
    gl.bindTexture(gl.TEXTURE_2D, first)
    gl.uniform1i(place("pixels"), 0)
    gl.uniform1i(place("heat"), 1)
    gl.uniform3f(place("toColumn"), back[0], back[2], back[4])
    gl.uniform3f(place("toRow"), back[1], back[3], back[5])
    gl.uniform2f(place("size"), ...scene.size)
    gl.uniform3f(place("hue"), ...scene.hue.map((part) => part / 255))
    const numbers = {
      height, step: level.step, heatStep: heat ? heat.step : 1, most: scene.most, low: scene.low, span: scene.span,
      opacity: scene.opacity, contour: scene.contour, lowCut: scene.lowCut,
    }
    for (const [name, value] of Object.entries(numbers)) gl.uniform1f(place(name), value)
    const flags = { isColour: scene.isColour, isInverted: scene.isInverted, isHeated: Boolean(heat) }
    for (const [name, value] of Object.entries(flags)) gl.uniform1i(place(name), value ? 1 : 0)
    gl.drawArrays(gl.TRIANGLES, 0, 3)
    context.drawImage(canvas, 0, canvas.height - height, width, height, 0, 0, width, height)
  }
}

let shader // one for all viewers of the page: browsers give only about sixteen contexts
function theShader() {
  if (shader === undefined) {
    try { shader = new Shader() } catch { shader = null }
  }
  return shader
}
// A canvas that is drawn by software stays in the memory of the processor.
function contextOf(canvas) { return canvas.getContext("2d", { willReadFrequently: !theShader() }) }
function drawScene(context, scene) {
  if (theShader()?.fits(scene.level)) shader.draw(context, scene)
  else drawBySoftware(context, scene)
}
function releaseLevels(levels) {
  if (shader) levels.forEach((level) => shader.release(level))
}
