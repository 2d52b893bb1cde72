"use strict";
// The nets of the model: flat arrays in, flat arrays out, one datum at a time. Sums are in double
// precision. Nothing here knows of the page, so that it runs outside a browser too.

const Net = (() => {
  function bytes(text) {
    if (typeof Buffer !== "undefined") return new Uint8Array(Buffer.from(text, "base64")).buffer;
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out.buffer;
  }

  // {shape, data} from what `numbers.py` writes.
  function tensor(stored) {
    if (stored.f32 !== undefined) return { shape: stored.shape, data: new Float32Array(bytes(stored.f32)) };
    const high = new Int16Array(bytes(stored.high)), scale = new Float32Array(bytes(stored.scale));
    const more = stored.more || 0, low = more ? new Uint8Array(bytes(stored.low)) : null;
    const data = new Float32Array(high.length), width = high.length / scale.length;
    for (let i = 0; i < high.length; i++) {
      const rest = !more ? 0 : more === 8 ? low[i] : (low[i >> 1] >> (4 * (i & 1))) & 15;
      data[i] = (high[i] * 2 ** more + rest) * scale[Math.floor(i / width)];
    }
    return { shape: stored.shape, data };
  }

  // JSON content whose stored tensors are read.
  function read(content) {
    if (Array.isArray(content)) return content.map(read);
    if (content === null || typeof content !== "object") return content;
    if (content.f32 !== undefined || content.high !== undefined) return tensor(content);
    return Object.fromEntries(Object.entries(content).map(([name, value]) => [name, read(value)]));
  }

  const sigmoid = (a) => (a >= 0 ? 1 / (1 + Math.exp(-a)) : Math.exp(a) / (1 + Math.exp(a)));
  const each = (f) => (x) => Float64Array.from(x, f);

  function softmax(x) {
    const top = Math.max(...x), e = Array.from(x, (a) => Math.exp(a - top));
    const sum = e.reduce((a, b) => a + b, 0);
    return e.map((a) => a / sum);
  }

  function linear(x, { weight, bias }) {
    const [rows, columns] = weight.shape, w = weight.data, out = Float64Array.from(bias.data);
    for (let row = 0, k = 0; row < rows; row++) {
      let sum = 0;
      for (let i = 0; i < columns; i++) sum += w[k++] * x[i];
      out[row] += sum;
    }
    return out;
  }

  // Calls f(output position, input position, position in the kernel) where they meet: for a
  // convolution, input = stride * output - padding + kernel; for a transposed one, the converse.
  function meet(small, large, { stride, padding }, size, f) {
    for (let y = 0; y < small[1]; y++)
      for (let x = 0; x < small[2]; x++)
        for (let a = 0; a < size[0]; a++) {
          const row = y * stride - padding + a;
          if (row < 0 || row >= large[1]) continue;
          for (let b = 0; b < size[1]; b++) {
            const column = x * stride - padding + b;
            if (column < 0 || column >= large[2]) continue;
            f(y * small[2] + x, row * large[2] + column, a * size[1] + b);
          }
        }
  }

  function filled({ out, bias }) {
    const area = out[1] * out[2], y = new Float64Array(out[0] * area);
    for (let c = 0; c < out[0]; c++) y.fill(bias.data[c], c * area, (c + 1) * area);
    return y;
  }

  function convolution(x, layer) {
    const from = layer.in, to = layer.out, y = filled(layer), w = layer.weight.data;
    const size = layer.weight.shape.slice(2), kernel = size[0] * size[1];
    const inArea = from[1] * from[2], outArea = to[1] * to[2];
    meet(to, from, layer, size, (o, i, k) => {
      for (let c = 0; c < to[0]; c++) {
        let sum = 0;
        for (let d = 0, at = c * from[0] * kernel + k; d < from[0]; d++, at += kernel) sum += w[at] * x[d * inArea + i];
        y[c * outArea + o] += sum;
      }
    });
    return y;
  }

  function transposed(x, layer) {
    const from = layer.in, to = layer.out, y = filled(layer), w = layer.weight.data;
    const size = layer.weight.shape.slice(2), kernel = size[0] * size[1];
    const inArea = from[1] * from[2], outArea = to[1] * to[2];
    meet(from, to, layer, size, (i, o, k) => {
      for (let c = 0; c < to[0]; c++) {
        let sum = 0;
        for (let d = 0; d < from[0]; d++) sum += w[(d * to[0] + c) * kernel + k] * x[d * inArea + i];
        y[c * outArea + o] += sum;
      }
    });
    return y;
  }

  function glu(x) {
    const half = x.length / 2, out = new Float64Array(half);
    for (let i = 0; i < half; i++) out[i] = x[i] * sigmoid(x[half + i]);
    return out;
  }

  // The mean of the continuous Bernoulli; its Taylor series near p = 1/2, as in PyTorch.
  function continuousBernoulli(a) {
    const p = Math.min(Math.max(sigmoid(a), 2 ** -23), 1 - 2 ** -23), x = p - 0.5;
    if (p > 0.499 && p <= 0.501) return 0.5 + (1 / 3 + (16 / 45) * x * x) * x;
    return p / (2 * p - 1) + 1 / (Math.log1p(-p) - Math.log(p));
  }

  function mixture(x, { offset }) {
    const [count, size] = offset.shape, weights = softmax(x.slice(2 * count * size));
    const out = new Float64Array(size);
    for (let c = 0; c < count; c++)
      for (let d = 0; d < size; d++) out[d] += weights[c] * (offset.data[c * size + d] + x[c * size + d]);
    return out;
  }

  function expectedLevel(x, { elements }) {
    const classes = x.length / elements;
    return Float64Array.from({ length: elements }, (_, e) =>
      softmax(Array.from({ length: classes }, (_, c) => x[c * elements + e])).reduce((sum, p, c) => sum + c * p, 0));
  }

  function logisticMixture(x, { offset, levels, elements }) {
    const count = offset.data.length, half = (levels - 1) / 2, out = new Float64Array(elements);
    for (let e = 0; e < elements; e++) {
      const numbers = (k) => Array.from({ length: count }, (_, m) => x[(k * count + m) * elements + e]);
      const weights = softmax(numbers(0)), locs = numbers(1), scales = numbers(2);
      for (let m = 0; m < count; m++) {
        const loc = half * (1 + offset.data[m] + locs[m]), rate = Math.exp(-scales[m]) * (count / half);
        let sum = 0;
        for (let k = 0; k < levels - 1; k++) sum += sigmoid((loc - k - 0.5) * rate);
        out[e] += weights[m] * sum;
      }
    }
    return out;
  }

  const OPS = {
    linear,
    convolution,
    "transposed-convolution": transposed,
    standardize: (x, { mean, scale }) => Float64Array.from(x, (a, i) => (a - mean.data[i]) / scale.data[i]),
    tanh: each(Math.tanh),
    relu: each((a) => Math.max(a, 0)),
    silu: each((a) => a * sigmoid(a)),
    elu: each((a) => (a > 0 ? a : Math.expm1(a))),
    sigmoid: each(sigmoid),
    exp: each(Math.exp),
    glu,
    half: (x) => x.slice(0, x.length / 2),
    first: (x, { count }) => x.slice(0, count),
    scale: (x, { by }) => Float64Array.from(x, (a) => a * by),
    mixture,
    "continuous-bernoulli": each(continuousBernoulli),
    "expected-level": expectedLevel,
    "logistic-mixture": logisticMixture,
  };

  const run = (layers, x) => layers.reduce((h, layer) => OPS[layer.op](h, layer), Float64Array.from(x));

  // Pixels in [0, 1] as the likelihood scores them; `uniforms` say how grey pixels are drawn.
  function prepare(x, { binarize, levels, whole }, uniforms) {
    if (whole) return x.map((a) => Math.round(a * (levels - 1)));
    if (binarize === "threshold") return x.map((a) => (a > 0.5 ? 1 : 0));
    if (binarize === "dynamic" || binarize === "static") return x.map((a, i) => (uniforms[i] < a ? 1 : 0));
    return x;
  }

  // What a test asks: {z: rows, x: rows}, to the means of p(x | z) and of q(z | x).
  function answer(model, { z = [], x = [] }) {
    return {
      decoded: z.map((row) => Array.from(run(model.decoder, row))),
      encoded: model.encoder ? x.map((row) => Array.from(run(model.encoder, row))) : null,
    };
  }

  return { read, run, prepare, answer };
})();

if (typeof module !== "undefined") module.exports = Net;
