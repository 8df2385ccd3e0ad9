// A decoded image to what a graph takes, and a graph's mask back to the image: trainyard/data/image_files.py and
// trainyard/serving/answers.py.

import { bilinear, nearest } from "./resample.js";

// As Python rounds: halves go to the even number.
function round(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 ? down + 1 : down;
}

// Returns {pixels (C, H, W), channels, height, width} of an image {width, height, channels, pixels (H, W, C)}.
export function asTaken(image, form) {
  let found = inChannels(image, form.channels);
  if (form.size) found = fit(found, form.size, form.resize);
  const { width, height, channels } = found;
  const planes = new Uint8Array(found.pixels.length);
  for (let place = 0; place < width * height; place += 1) {
    for (let channel = 0; channel < channels; channel += 1) {
      planes[channel * width * height + place] = found.pixels[place * channels + channel];
    }
  }
  return { pixels: planes, channels, height, width };
}

// Grey values of colours are luma (ITU-R BT.601), in Pillow's arithmetic.
export function inChannels(image, channels) {
  if (image.channels === channels) return image;
  const total = image.width * image.height;
  const pixels = new Uint8Array(total * channels);
  for (let place = 0; place < total; place += 1) {
    if (channels === 1) {
      const [red, green, blue] = image.pixels.subarray(3 * place, 3 * place + 3);
      pixels[place] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else {
      pixels.fill(image.pixels[place], 3 * place, 3 * place + 3);
    }
  }
  return { ...image, channels, pixels };
}

// Width and height that an image is scaled to before its middle is cut out, or black is put around it.
function scaledSides(width, height, [wantedHeight, wantedWidth], resize) {
  const ratios = [wantedWidth / width, wantedHeight / height];
  const scale = resize === "crop" ? Math.max(...ratios) : Math.min(...ratios);
  const bound = resize === "crop" ? Math.max : Math.min;
  return [bound(wantedWidth, Math.max(1, round(width * scale))), bound(wantedHeight, Math.max(1, round(height * scale)))];
}

function fit(image, size, resize) {
  const [height, width] = size;
  if (image.width === width && image.height === height) return image;
  if (resize === "stretch") return bilinear(image, width, height);
  const scaled = bilinear(image, ...scaledSides(image.width, image.height, size, resize));
  const [left, top] = [Math.floor((scaled.width - width) / 2), Math.floor((scaled.height - height) / 2)];
  const pixels = new Uint8Array(width * height * image.channels);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [column, row] = [x + left, y + top];
      if (column < 0 || row < 0 || column >= scaled.width || row >= scaled.height) continue;
      for (let channel = 0; channel < image.channels; channel += 1) {
        const from = (row * scaled.width + column) * image.channels + channel;
        pixels[(y * width + x) * image.channels + channel] = scaled.pixels[from];
      }
    }
  }
  return { width, height, channels: image.channels, pixels };
}

// Returns the mask {width, height, ids} at the size of the image as it came; what the graph did not see is of class 0.
export function back(mask, width, height, resize) {
  if (mask.width === width && mask.height === height) return mask;
  const [columns, rows] = resize === "stretch" ? [nearest(mask.width, width), nearest(mask.height, height)] : places();
  const ids = new Uint8Array(width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [column, row] = [columns[x], rows[y]];
      const seen = column >= 0 && row >= 0 && column < mask.width && row < mask.height;
      ids[y * width + x] = seen ? mask.ids[row * mask.width + column] : 0;
    }
  }
  return { width, height, ids };

  function places() {
    const [scaledWidth, scaledHeight] = scaledSides(width, height, [mask.height, mask.width], resize);
    return [along(width, mask.width, scaledWidth), along(height, mask.height, scaledHeight)];
  }

  function along(own, seen, scaled) {
    const first = Math.floor((scaled - seen) / 2);
    return Int32Array.from({ length: own }, (_, place) => {
      const found = Math.floor(((place + 0.5) * scaled) / own) - first;
      return Math.min(Math.max(found, -first), scaled - 1 - first);
    });
  }
}
