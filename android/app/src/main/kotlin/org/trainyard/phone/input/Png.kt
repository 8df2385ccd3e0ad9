package org.trainyard.phone.input

import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

// A PNG file to pixels, by the rules of trainyard/data/image_files.py, to the last bit. Android's own decoder would not do:
// it applies colour profiles, multiplies by alpha, and cuts 16 bits down in its own way.

private val SIGNATURE = byteArrayOf(0x89.toByte(), 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)
private const val GREY = 0
private const val COLOUR = 2
private const val PALETTE = 3
private const val GREY_ALPHA = 4
private val SAMPLES = mapOf(GREY to 1, COLOUR to 3, PALETTE to 1, GREY_ALPHA to 2, 6 to 4) // of a pixel, by the type of colour
private val DEPTHS = mapOf(
    GREY to listOf(1, 2, 4, 8, 16), COLOUR to listOf(8, 16), PALETTE to listOf(1, 2, 4, 8), GREY_ALPHA to listOf(8, 16), 6 to listOf(8, 16),
)
private val WHOLE = listOf(intArrayOf(0, 0, 1, 1))
private val ADAM7 = listOf(
    intArrayOf(0, 0, 8, 8), intArrayOf(4, 0, 8, 8), intArrayOf(0, 4, 4, 8), intArrayOf(2, 0, 4, 4),
    intArrayOf(0, 2, 2, 4), intArrayOf(1, 0, 2, 2), intArrayOf(0, 1, 1, 2),
)
private const val MOST_FILTERS = 4

private fun damaged(what: String) = Problem("damaged PNG: $what", "restore the file, or take another one")

fun isPng(bytes: ByteArray): Boolean = bytes.size >= SIGNATURE.size && SIGNATURE.indices.all { bytes[it] == SIGNATURE[it] }

/** The image in a file, of 1 or 3 channels, turned upright, without palette or alpha. */
fun decodePng(bytes: ByteArray, maxPixels: Int): Image {
    val chunks = readChunks(bytes)
    val header = readHeader(chunks["IHDR"]?.first(), maxPixels)
    val palette = chunks["PLTE"]?.first()
    if (header.type == PALETTE && palette == null) throw damaged("it has no palette")
    val packed = inflate(chunks["IDAT"].orEmpty(), header.passes.sumOf { it.bytes })
    val image = toBytes(unpack(packed, header), header, palette ?: ByteArray(0), chunks["tRNS"]?.first())
    return turned(image, orientation(chunks))
}

private class Header(val width: Int, val height: Int, val depth: Int, val type: Int, val interlaced: Boolean) {
    val samples = SAMPLES.getValue(type)

    /** The sub-images of which the file consists: one, or seven where it is interlaced. */
    val passes = (if (interlaced) ADAM7 else WHOLE).map { Pass(it, this) }.filter { it.columns > 0 && it.rows > 0 }
}

private class Pass(place: IntArray, header: Header) {
    val left = place[0]
    val top = place[1]
    val across = place[2]
    val down = place[3]
    val columns = Math.floorDiv(header.width - left + across - 1, across)
    val rows = Math.floorDiv(header.height - top + down - 1, down)

    /** Bytes of one line, without the one that names its filter. */
    val line = ((columns.toLong() * header.depth * SAMPLES.getValue(header.type) + 7) / 8).toInt()
    val bytes = rows * (line + 1)
}

private fun readChunks(bytes: ByteArray): Map<String, List<ByteArray>> {
    val numbers = ByteBuffer.wrap(bytes)
    val chunks = HashMap<String, MutableList<ByteArray>>()
    var place = SIGNATURE.size
    while (place + 12L <= bytes.size) {
        val end = place + 12L + (numbers.getInt(place).toLong() and 0xffffffffL)
        if (end > bytes.size) break
        val last = end.toInt()
        val sum = CRC32().apply { update(bytes, place + 4, last - place - 8) }.value
        if (sum != numbers.getInt(last - 4).toLong() and 0xffffffffL) {
            throw damaged("checksum of the chunk at byte ${count(place)} does not match")
        }
        val kind = String(bytes, place + 4, 4, Charsets.ISO_8859_1)
        if (kind == "IEND") return chunks
        chunks.getOrPut(kind) { ArrayList() }.add(bytes.copyOfRange(place + 8, last - 4))
        place = last
    }
    throw damaged("cut off at byte ${count(bytes.size)}, before its end chunk")
}

private fun readHeader(chunk: ByteArray?, maxPixels: Int): Header {
    if (chunk == null || chunk.size < 13) throw damaged("its header cannot be read")
    val numbers = ByteBuffer.wrap(chunk)
    val width = numbers.getInt(0)
    val height = numbers.getInt(4)
    val depth = chunk[8].toInt()
    val type = chunk[9].toInt()
    val interlaced = chunk[12].toInt()
    if (width <= 0 || height <= 0 || depth !in DEPTHS[type].orEmpty() || interlaced !in 0..1) {
        throw damaged("its header cannot be read")
    }
    checkPixels(width, height, maxPixels)
    return Header(width, height, depth, type, interlaced == 1)
}

/** Refuses an image of more pixels than this app takes. */
fun checkPixels(width: Int, height: Int, maxPixels: Int) {
    val pixels = width.toLong() * height
    if (pixels > maxPixels) {
        throw Problem("$width x $height = ${count(pixels)} pixels", "this app takes images of at most ${count(maxPixels)} pixels")
    }
}

/** So many bytes of a zlib stream; what comes after them is not looked at. */
private fun inflate(parts: List<ByteArray>, length: Int): ByteArray {
    val found = ByteArray(length)
    val inflater = Inflater()
    val left = parts.iterator()
    var place = 0
    try {
        while (place < length) {
            val read = inflater.inflate(found, place, length - place)
            place += read
            if (read > 0 || place == length) continue
            if (inflater.finished() || inflater.needsDictionary() || !left.hasNext()) break
            inflater.setInput(left.next())
        }
    } catch (_: DataFormatException) {
        throw damaged("its pixels cannot be decompressed")
    } finally {
        inflater.end()
    }
    if (place < length) throw damaged("pixels are missing at its end")
    return found
}

/** The samples as they stand in the file, (H, W, samples), of up to 16 bits. */
private fun unpack(packed: ByteArray, header: Header): ShortArray {
    val values = ShortArray(header.width * header.height * header.samples)
    var place = 0
    for (pass in header.passes) {
        unfilter(packed, place, pass, maxOf(1, header.depth * header.samples shr 3))
        for (row in 0 until pass.rows) {
            val line = place + row * (pass.line + 1) + 1
            val first = (pass.top + row * pass.down) * header.width + pass.left
            for (column in 0 until pass.columns) {
                for (sample in 0 until header.samples) {
                    val value = valueAt(packed, line, column * header.samples + sample, header.depth)
                    values[(first + column * pass.across) * header.samples + sample] = value.toShort()
                }
            }
        }
        place += pass.bytes
    }
    return values
}

private fun valueAt(bytes: ByteArray, line: Int, number: Int, depth: Int): Int {
    fun byte(place: Int) = bytes[line + place].toInt() and 255
    if (depth == 8) return byte(number)
    if (depth == 16) return (byte(2 * number) shl 8) or byte(2 * number + 1)
    val bit = number * depth
    return (byte(bit shr 3) shr (8 - depth - (bit and 7))) and ((1 shl depth) - 1)
}

/** Undoes, in place, what each line says was done to it (https://www.w3.org/TR/png-3/#9Filters). */
private fun unfilter(bytes: ByteArray, start: Int, pass: Pass, step: Int) {
    fun byte(place: Int) = bytes[place].toInt() and 255
    for (row in 0 until pass.rows) {
        val first = start + row * (pass.line + 1) + 1
        val above = first - pass.line - 1 // the same place in the line above, which the first line does not have
        val filter = byte(first - 1)
        if (filter > MOST_FILTERS) throw damaged("a line with filter $filter, which does not exist")
        if (filter == 0) continue
        for (place in 0 until pass.line) {
            val left = if (place >= step) byte(first + place - step) else 0
            val up = if (row > 0) byte(above + place) else 0
            val corner = if (row > 0 && place >= step) byte(above + place - step) else 0
            val guess = when (filter) {
                1 -> left
                2 -> up
                3 -> (left + up) shr 1
                else -> paeth(left, up, corner)
            }
            bytes[first + place] = (byte(first + place) + guess).toByte()
        }
    }
}

private fun paeth(left: Int, above: Int, corner: Int): Int {
    val guess = left + above - corner
    val toLeft = Math.abs(guess - left)
    val toAbove = Math.abs(guess - above)
    val toCorner = Math.abs(guess - corner)
    if (toLeft <= toAbove && toLeft <= toCorner) return left
    return if (toAbove <= toCorner) above else corner
}

private fun toBytes(values: ShortArray, header: Header, palette: ByteArray, transparency: ByteArray?): Image {
    val total = header.width * header.height
    val colours = Colours(values, header, palette, transparency)
    val grey = header.type == GREY && (header.depth == 16 || transparency == null)
    val pixels = ByteArray(total * if (grey) 1 else 3)
    for (pixel in 0 until total) {
        if (grey) {
            pixels[pixel] = colours.grey(pixel).toByte()
        } else {
            colours.read(pixel)
            for (channel in 0 until 3) pixels[3 * pixel + channel] = overBlack(colours.found[channel], colours.found[3]).toByte()
        }
    }
    return Image(header.width, header.height, if (grey) 1 else 3, pixels)
}

private class Colours(val values: ShortArray, val header: Header, val palette: ByteArray, val transparency: ByteArray?) {
    /** Red, green, blue and alpha of the pixel that was read last. */
    val found = IntArray(4)
    private val scale = mapOf(1 to 255, 2 to 85, 4 to 17)[header.depth] ?: 1
    private val upper = if (header.depth == 16) 8 else 0
    private val clear = if (transparency == null || header.type == PALETTE) null else clearColour(transparency, header)

    fun grey(pixel: Int): Int {
        val value = values[pixel].toInt() and 0xffff
        return if (header.depth == 16) (value + 128) / 257 else value * scale
    }

    fun read(pixel: Int) {
        val first = pixel * header.samples
        fun sample(number: Int) = (values[first + number].toInt() and 0xffff) shr upper
        when (header.type) {
            PALETTE -> {
                val index = sample(0)
                for (channel in 0 until 3) found[channel] = (palette.getOrNull(3 * index + channel) ?: 0).toInt() and 255
                found[3] = (transparency?.getOrNull(index) ?: -1).toInt() and 255
            }
            GREY, GREY_ALPHA -> {
                found.fill(sample(0) * scale, 0, 3)
                found[3] = if (header.type == GREY_ALPHA) sample(1) else if (found[0] == clear?.get(0)) 0 else 255
            }
            else -> {
                for (channel in 0 until header.samples) found[channel] = sample(channel)
                if (header.type == COLOUR) found[3] = if (clear != null && (0 until 3).all { clear[it] == found[it] }) 0 else 255
            }
        }
    }
}

/** The colour that stands for nothing, compared with pixels of 8 bits, as Pillow does. */
private fun clearColour(chunk: ByteArray, header: Header): IntArray {
    val values = IntArray(if (header.type == COLOUR) 3 else 1) { number ->
        val (high, low) = listOf(2 * number, 2 * number + 1).map { (chunk.getOrNull(it) ?: 0).toInt() and 255 }
        (high shl 8) or low
    }
    return if (header.depth == 1) intArrayOf(if (values[0] != 0) 255 else 0) else IntArray(values.size) { values[it] and 255 }
}

/** A colour with alpha over black, in Pillow's arithmetic. */
fun overBlack(value: Int, alpha: Int): Int {
    if (alpha == 255) return value
    val product = value * alpha * 128 + 0x4000
    return if (alpha == 0) 0 else ((product shr 8) + product) shr 15
}

private fun orientation(chunks: Map<String, List<ByteArray>>): Int {
    chunks["eXIf"]?.let { noted -> exifOrientation(noted.last())?.let { return it } }
    val pattern = Regex("tiff:Orientation(?:=\"|>)([0-9])")
    return chunks["iTXt"].orEmpty().firstNotNullOfOrNull { pattern.find(xmp(it)) }?.groupValues?.get(1)?.toInt() ?: 1
}

private fun exifOrientation(chunk: ByteArray): Int? {
    val little = chunk.firstOrNull()?.toInt() == 'I'.code
    val numbers = ByteBuffer.wrap(chunk).order(if (little) java.nio.ByteOrder.LITTLE_ENDIAN else java.nio.ByteOrder.BIG_ENDIAN)
    return try {
        val first = numbers.getInt(4)
        val places = (0 until (numbers.getShort(first).toInt() and 0xffff)).map { first + 2 + 12 * it }
        places.firstOrNull { numbers.getShort(it).toInt() == 0x0112 }?.let { numbers.getShort(it + 8).toInt() and 0xffff }
    } catch (_: IndexOutOfBoundsException) {
        null
    }
}

private fun xmp(chunk: ByteArray): String {
    val text = String(chunk, Charsets.ISO_8859_1)
    val key = "XML:com.adobe.xmp\u0000"
    if (!text.startsWith(key) || text.length < key.length + 2) return ""
    val language = text.indexOf('\u0000', key.length + 2)
    val start = text.indexOf('\u0000', language + 1) + 1
    if (chunk[key.length].toInt() == 0) return text.substring(start)
    val inflater = Inflater().apply { setInput(chunk, start, chunk.size - start) }
    val out = ByteArrayOutputStream()
    val buffer = ByteArray(8192)
    return try {
        while (!inflater.finished()) {
            val read = inflater.inflate(buffer)
            if (read == 0) break
            out.write(buffer, 0, read)
            if (out.size() > MOST_XMP) break
        }
        String(out.toByteArray(), Charsets.ISO_8859_1)
    } catch (_: DataFormatException) {
        ""
    } finally {
        inflater.end()
    }
}

private const val MOST_XMP = 1 shl 20

/** An image turned upright, as a camera noted: 1 to 8, as Exif numbers them. */
fun turned(image: Image, noted: Int): Image {
    if (noted !in 2..8) return image
    val (width, height) = image.width to image.height
    val across = if (noted > 4) height else width
    val down = if (noted > 4) width else height
    val channels = image.channels
    val pixels = ByteArray(image.pixels.size)
    for (y in 0 until down) {
        for (x in 0 until across) {
            val column = when (noted) { 2, 3 -> width - 1 - x; 4 -> x; 5, 6 -> y; else -> width - 1 - y }
            val row = when (noted) { 2 -> y; 3, 4 -> height - 1 - y; 5, 8 -> x; else -> height - 1 - x }
            val from = (row * width + column) * channels
            image.pixels.copyInto(pixels, (y * across + x) * channels, from, from + channels)
        }
    }
    return Image(across, down, channels, pixels)
}
