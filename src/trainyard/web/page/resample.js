// Images of another size, as Pillow makes them: bilinear with anti-aliasing in fixed-point arithmetic, and nearest.

const PRECISION_BITS = 22; // 32 bits, less 8 of a pixel and 2 to spare
const HALF = 1 << (PRECISION_BITS - 1);

// For each pixel along one side: from where on pixels of the other size count, and by which weights.
function weights(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(from, Math.trunc(center + support + 0.5));
    const found = [];
    let sum = 0;
    for (let other = 0; other < last - first; other += 1) {
      const weight = Math.max(0, 1 - Math.abs((other + first - center + 0.5) * (1 / support)));
      found.push(weight);
      sum += weight;
    }
    return { first, fixed: Int32Array.from(found, (weight) => Math.trunc(0.5 + (weight / sum) * (1 << PRECISION_BITS))) };
  });
}

// Returns {width, height, channels, pixels (H, W, C)}.
export function bilinear(image, width, height) {
  // As Pillow does from 13 on: the order of the two passes shows in the rounding.
  const shorter = image.height - height;
  const upright = shorter > 0 && shorter > 2 * (image.width - width);
  return [!upright, upright].reduce((found, horizontally) => {
    if (found[horizontally ? "width" : "height"] === (horizontally ? width : height)) return found;
    return resampled(found, horizontally ? width : found.width, horizontally ? found.height : height, horizontally);
  }, image);
}

function resampled(image, width, height, horizontally) {
  const { channels } = image;
  const pixels = new Uint8Array(width * height * channels);
  const along = horizontally ? weights(image.width, width) : weights(image.height, height);
  const step = horizontally ? channels : image.width * channels;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const { first, fixed } = along[horizontally ? x : y];
      const start = horizontally ? (y * image.width + first) * channels : (first * image.width + x) * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = HALF;
        for (let place = 0; place < fixed.length; place += 1) {
          sum += image.pixels[start + place * step + channel] * fixed[place];
        }
        pixels[(y * width + x) * channels + channel] = Math.min(255, Math.max(0, sum >> PRECISION_BITS));
      }
    }
  }
  return { width, height, channels, pixels };
}

// For each pixel along one side, which one of the other size is the nearest.
export function nearest(from, to) {
  const step = from / to;
  const places = new Int32Array(to);
  let place = step * 0.5;
  for (let number = 0; number < to; number += 1) {
    places[number] = Math.min(from - 1, Math.trunc(place));
    place += step; // added up, as Pillow does, and not multiplied
  }
  return places;
}
