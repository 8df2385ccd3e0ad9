// Files of this folder, each as it was when the folder was written, or not at all.

export async function bytesOf({ file, integrity }, base) {
  let response;
  try {
    response = await fetch(new URL(file, base), { integrity, cache: "no-cache" });
  } catch {
    throw new Error(`${file} is not to be had, or is not the file that this page was made with: write the folder again`);
  }
  if (!response.ok) throw new Error(`${file} is not there (${response.status}): write the folder again`);
  return new Uint8Array(await response.arrayBuffer());
}

// Some hosts unpack what ends with .gz on the way, others do not.
export async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export async function openRuntime(ort, wasm) {
  ort.env.wasm.numThreads = 1; // several would ask the host for headers that few send
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmBinary = await unpacked(wasm);
  ort.env.logLevel = "error";
}
