// SHA-256 of a file, computed in the browser. The file is read in slices and never sent.
const K = new Uint32Array(64);
const START = new Uint32Array(8);
(() => {
  let count = 0;
  for (let n = 2; count < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
    if (!prime) continue;
    if (count < 8) START[count] = (Math.sqrt(n) % 1) * 4294967296;
    K[count++] = (Math.cbrt(n) % 1) * 4294967296;
  }
})();

class Sha256 {
  constructor() {
    this.state = START.slice();
    this.words = new Uint32Array(64);
    this.rest = new Uint8Array(0);
    this.bytes = 0;
  }

  update(data) {
    this.bytes += data.length;
    let all = data;
    if (this.rest.length) {
      all = new Uint8Array(this.rest.length + data.length);
      all.set(this.rest);
      all.set(data, this.rest.length);
    }
    let at = 0;
    for (; at + 64 <= all.length; at += 64) this.block(all, at);
    this.rest = all.slice(at);
  }

  block(data, at) {
    const w = this.words;
    for (let i = 0; i < 16; i++, at += 4) {
      w[i] = (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = this.state;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { this.state[i] += value; });
  }

  digest() {
    const bits = this.bytes * 8;
    const end = new Uint8Array(this.rest.length < 56 ? 64 : 128);
    end.set(this.rest);
    end[this.rest.length] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 4294967296));
    view.setUint32(end.length - 4, bits >>> 0);
    for (let at = 0; at < end.length; at += 64) this.block(end, at);
    return [...this.state].map((word) => word.toString(16).padStart(8, "0")).join("");
  }
}

const SLICE_BYTES = 4 * 1024 * 1024;

async function hash(file, show) {
  const sha = new Sha256();
  for (let at = 0; at < file.size; at += SLICE_BYTES) {
    sha.update(new Uint8Array(await file.slice(at, at + SLICE_BYTES).arrayBuffer()));
    show(`Computing SHA-256: ${Math.floor((100 * Math.min(file.size, at + SLICE_BYTES)) / file.size)} %`);
  }
  return sha.digest();
}

export default function ({ parentElement, setTriggerValue }) {
  const input = parentElement.querySelector("input");
  const area = parentElement.querySelector("label");
  const status = parentElement.querySelector("output");
  const read = async (file) => {
    if (!file) return;
    try {
      const digest = await hash(file, (text) => { status.textContent = text; });
      status.textContent = digest;
      setTriggerValue("digest", digest);
    } catch {
      status.textContent = "This file cannot be read.";
    }
  };
  input.onchange = () => read(input.files[0]);
  area.ondragover = (event) => event.preventDefault();
  area.ondrop = (event) => { event.preventDefault(); read(event.dataTransfer.files[0]); };
}
