// A PNG file to pixels, by the rules of trainyard/data/image_files.py, to the last bit. A browser's canvas would not do:
// it applies colour profiles, multiplies by alpha, and cuts 16 bits down in its own way.

import { Problem, count } from "./problem.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // of a pixel, by the type of colour
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const GREY = 0, COLOUR = 2, PALETTE = 3, GREY_ALPHA = 4;

const CRC = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc(bytes, start, end) {
  let value = 0xffffffff;
  for (let place = start; place < end; place += 1) value = CRC[(value ^ bytes[place]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function damaged(what) {
  return new Problem(`damaged PNG: ${what}`, "restore the file, or take another one");
}

export function isPng(bytes) {
  return SIGNATURE.every((byte, place) => bytes[place] === byte);
}

// Returns {width, height, channels: 1 or 3, pixels (H, W, C)}, turned upright, without palette or alpha.
export async function decodePng(bytes, maxPixels) {
  const chunks = readChunks(bytes);
  const header = readHeader(chunks.IHDR?.[0], maxPixels);
  if (header.type === PALETTE && !chunks.PLTE) throw damaged("it has no palette");
  const packed = await inflate(joined(chunks.IDAT ?? []), passes(header).reduce((sum, pass) => sum + pass.bytes, 0));
  const values = unpack(packed, header);
  const image = toBytes(values, header, chunks.PLTE?.[0], chunks.tRNS?.[0]);
  return turn(image, await orientation(chunks));
}

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = {};
  let place = SIGNATURE.length;
  while (place + 12 <= bytes.length) {
    const end = place + 12 + view.getUint32(place);
    if (end > bytes.length) break;
    if (crc(bytes, place + 4, end - 4) !== view.getUint32(end - 4)) {
      throw damaged(`checksum of the chunk at byte ${count(place)} does not match`);
    }
    const kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    if (kind === "IEND") return chunks;
    (chunks[kind] ??= []).push(bytes.subarray(place + 8, end - 4));
    place = end;
  }
  throw damaged(`cut off at byte ${count(bytes.length)}, before its end chunk`);
}

function readHeader(chunk, maxPixels) {
  if (!chunk || chunk.length < 13) throw damaged("its header cannot be read");
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  const [width, height, depth, type] = [view.getUint32(0), view.getUint32(4), chunk[8], chunk[9]];
  if (!width || !height || !DEPTHS[type]?.includes(depth) || chunk[12] > 1) throw damaged("its header cannot be read");
  checkPixels(width, height, maxPixels);
  return { width, height, depth, type, interlaced: chunk[12] === 1 };
}

// Refuses an image of more pixels than this page takes.
export function checkPixels(width, height, maxPixels) {
  if (width * height > maxPixels) {
    const found = `${width} x ${height} = ${count(width * height)} pixels`;
    throw new Problem(found, `this page takes images of at most ${count(maxPixels)} pixels`);
  }
}

// The sub-images of which the file consists: one, or seven where it is interlaced.
function passes({ width, height, depth, type, interlaced }) {
  const bits = depth * SAMPLES[type];
  return (interlaced ? ADAM7 : [[0, 0, 1, 1]])
    .map(([left, top, across, down]) => {
      const [columns, rows] = [Math.ceil((width - left) / across), Math.ceil((height - top) / down)];
      const line = Math.ceil((columns * bits) / 8);
      return { left, top, across, down, columns, rows, line, bytes: rows * (line + 1) };
    })
    .filter(({ columns, rows }) => columns > 0 && rows > 0);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

// Returns so many bytes of a zlib stream; what comes after them is not looked at.
async function inflate(compressed, length) {
  const found = new Uint8Array(length);
  let place = 0;
  const reader = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    while (place < length) {
      const { done, value } = await reader.read();
      if (done) break;
      found.set(value.subarray(0, length - place), place);
      place += value.length;
    }
  } catch {
    throw damaged("its pixels cannot be decompressed");
  } finally {
    reader.cancel().catch(() => {});
  }
  if (place < length) throw damaged("pixels are missing at its end");
  return found;
}

// Returns the samples as they stand in the file, (H, W, samples), of 8 or 16 bits.
function unpack(packed, header) {
  const { width, height, depth, type } = header;
  const samples = SAMPLES[type];
  const values = depth === 16 ? new Uint16Array(width * height * samples) : new Uint8Array(width * height * samples);
  let place = 0;
  for (const pass of passes(header)) {
    const lines = packed.subarray(place, place + pass.bytes);
    unfilter(lines, pass, Math.max(1, (depth * samples) >> 3));
    for (let row = 0; row < pass.rows; row += 1) {
      const line = lines.subarray(row * (pass.line + 1) + 1, (row + 1) * (pass.line + 1));
      const first = (pass.top + row * pass.down) * width + pass.left;
      if (depth === 8 && !header.interlaced) {
        values.set(line, first * samples);
        continue;
      }
      for (let column = 0; column < pass.columns; column += 1) {
        for (let sample = 0; sample < samples; sample += 1) {
          const number = column * samples + sample;
          values[(first + column * pass.across) * samples + sample] = valueAt(line, number, depth);
        }
      }
    }
    place += pass.bytes;
  }
  return values;
}

function valueAt(line, number, depth) {
  if (depth === 8) return line[number];
  if (depth === 16) return (line[2 * number] << 8) | line[2 * number + 1];
  const bit = number * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

// Undoes, in place, what each line says was done to it (https://www.w3.org/TR/png-3/#9Filters).
function unfilter(lines, { rows, line }, step) {
  for (let row = 0; row < rows; row += 1) {
    const first = row * (line + 1) + 1;
    const above = first - line - 1; // the same place in the line above, which the first line does not have
    const filter = lines[first - 1];
    if (filter > 4) throw damaged(`a line with filter ${filter}, which does not exist`);
    if (filter === 0 || (filter === 2 && row === 0)) continue;
    for (let place = 0; place < line; place += 1) {
      const left = place >= step ? lines[first + place - step] : 0;
      const up = row ? lines[above + place] : 0;
      if (filter === 1) lines[first + place] += left;
      else if (filter === 2) lines[first + place] += up;
      else if (filter === 3) lines[first + place] += (left + up) >> 1;
      else lines[first + place] += paeth(left, up, row && place >= step ? lines[above + place - step] : 0);
    }
  }
}

function paeth(left, above, corner) {
  const guess = left + above - corner;
  const [toLeft, toAbove, toCorner] = [Math.abs(guess - left), Math.abs(guess - above), Math.abs(guess - corner)];
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

function toBytes(values, { width, height, depth, type }, palette, transparency) {
  const total = width * height;
  if (type === COLOUR && depth === 8 && !transparency) return { width, height, channels: 3, pixels: values };
  const deep = type === GREY && depth === 16;
  const channels = type === GREY && (deep || !transparency) ? 1 : 3;
  const pixels = new Uint8Array(total * channels);
  const scale = { 1: 255, 2: 85, 4: 17 }[depth] ?? 1;
  const upper = depth === 16 ? 8 : 0;
  const clear = transparency && type !== PALETTE ? clearColour(transparency, depth, type) : null;
  for (let pixel = 0; pixel < total; pixel += 1) {
    if (deep) {
      pixels[pixel] = Math.floor((values[pixel] + 128) / 257);
    } else if (type === GREY && channels === 1) {
      pixels[pixel] = values[pixel] * scale;
    } else {
      const [red, green, blue, alpha] = colourAt(pixel);
      pixels[3 * pixel] = overBlack(red, alpha);
      pixels[3 * pixel + 1] = overBlack(green, alpha);
      pixels[3 * pixel + 2] = overBlack(blue, alpha);
    }
  }
  return { width, height, channels, pixels };

  function colourAt(pixel) {
    const first = pixel * SAMPLES[type];
    if (type === PALETTE) {
      const index = values[first];
      const alpha = transparency && index < transparency.length ? transparency[index] : 255;
      return [palette[3 * index] ?? 0, palette[3 * index + 1] ?? 0, palette[3 * index + 2] ?? 0, alpha];
    }
    const samples = [0, 1, 2, 3].map((sample) => values[first + sample] >> upper);
    if (type === GREY || type === GREY_ALPHA) {
      const grey = samples[0] * scale;
      const alpha = type === GREY_ALPHA ? samples[1] : grey === clear?.[0] ? 0 : 255;
      return [grey, grey, grey, alpha];
    }
    if (type === COLOUR) {
      const hidden = clear !== null && clear.every((value, sample) => value === samples[sample]);
      return [samples[0], samples[1], samples[2], hidden ? 0 : 255];
    }
    return samples;
  }
}

// The colour that stands for nothing, compared with pixels of 8 bits, as Pillow does.
function clearColour(chunk, depth, type) {
  const values = [0, 2, 4].slice(0, type === COLOUR ? 3 : 1).map((place) => (chunk[place] << 8) | chunk[place + 1]);
  return depth === 1 ? [values[0] ? 255 : 0] : values.map((value) => value & 255);
}

// A colour with alpha over black, in Pillow's arithmetic.
export function overBlack(value, alpha) {
  if (alpha === 255) return value;
  const product = value * alpha * 128 + 0x4000;
  return alpha ? ((product >> 8) + product) >> 15 : 0;
}

async function orientation(chunks) {
  const noted = chunks.eXIf ? exifOrientation(chunks.eXIf.at(-1)) : null;
  if (noted !== null) return noted;
  for (const chunk of chunks.iTXt ?? []) {
    const found = /tiff:Orientation(?:="|>)([0-9])/.exec(await xmp(chunk));
    if (found) return Number(found[1]);
  }
  return 1;
}

function exifOrientation(chunk) {
  const little = chunk[0] === 0x49;
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  try {
    const first = view.getUint32(4, little);
    const entries = view.getUint16(first, little);
    for (let entry = 0; entry < entries; entry += 1) {
      const place = first + 2 + 12 * entry;
      if (view.getUint16(place, little) === 0x0112) return view.getUint16(place + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return null;
}

async function xmp(chunk) {
  const text = String.fromCharCode(...chunk.subarray(0, Math.min(chunk.length, 65536)));
  const key = "XML:com.adobe.xmp\0";
  if (!text.startsWith(key)) return "";
  const language = text.indexOf("\0", key.length + 2);
  const start = text.indexOf("\0", language + 1) + 1;
  if (!chunk[key.length]) return text.slice(start);
  const stream = new Blob([chunk.subarray(start)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text().catch(() => "");
}

// Turns an image upright, as the camera noted.
export function turn({ width, height, channels, pixels }, noted) {
  const from = {
    2: (x, y) => [width - 1 - x, y],
    3: (x, y) => [width - 1 - x, height - 1 - y],
    4: (x, y) => [x, height - 1 - y],
    5: (x, y) => [y, x],
    6: (x, y) => [y, height - 1 - x],
    7: (x, y) => [width - 1 - y, height - 1 - x],
    8: (x, y) => [width - 1 - y, x],
  }[noted];
  if (!from) return { width, height, channels, pixels };
  const [across, down] = noted > 4 ? [height, width] : [width, height];
  const turned = new Uint8Array(pixels.length);
  for (let y = 0; y < down; y += 1) {
    for (let x = 0; x < across; x += 1) {
      const [column, row] = from(x, y);
      for (let channel = 0; channel < channels; channel += 1) {
        turned[(y * across + x) * channels + channel] = pixels[(row * width + column) * channels + channel];
      }
    }
  }
  return { width: across, height: down, channels, pixels: turned };
}
