// Images that a browser has not the memory for, made smaller before the network sees them; the page says so.

import { bilinear } from "./resample.js";

export function shrunk(image, mostPixels) {
  const scale = Math.sqrt(mostPixels / (image.width * image.height));
  if (scale >= 1) return image;
  return bilinear(image, Math.max(1, Math.floor(image.width * scale)), Math.max(1, Math.floor(image.height * scale)));
}
