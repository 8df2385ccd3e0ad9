package org.trainyard.phone.input

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

// A decoded image to what a program takes, and a program's mask back to the image: trainyard/data/image_files.py and
// trainyard/serving/answers.py.

/** How an image becomes pixels; [size] is height and width, or null where the image stays as it is. */
class ImageForm(val channels: Int, val size: Pair<Int, Int>?, val resize: String)

/** The class of each pixel (H, W). */
class Ids(val width: Int, val height: Int, val ids: ByteArray)

/** The image as the program sees it. */
fun asTaken(image: Image, form: ImageForm): Image {
    val found = inChannels(image, form.channels)
    return if (form.size == null) found else fit(found, form.size, form.resize)
}

/** Pixels (C, H, W) of an image (H, W, C). */
fun planes(image: Image): ByteArray {
    val total = image.width * image.height
    val planes = ByteArray(image.pixels.size)
    for (place in 0 until total) {
        for (channel in 0 until image.channels) planes[channel * total + place] = image.pixels[place * image.channels + channel]
    }
    return planes
}

/** Grey values of colours are luma (ITU-R BT.601), in Pillow's arithmetic. */
fun inChannels(image: Image, channels: Int): Image {
    if (image.channels == channels) return image
    val total = image.width * image.height
    val pixels = ByteArray(total * channels)
    for (place in 0 until total) {
        if (channels == 1) {
            val luma = image.at(3 * place) * 19595 + image.at(3 * place + 1) * 38470 + image.at(3 * place + 2) * 7471
            pixels[place] = ((luma + 0x8000) shr 16).toByte()
        } else {
            pixels.fill(image.pixels[place], 3 * place, 3 * place + 3)
        }
    }
    return Image(image.width, image.height, channels, pixels)
}

/** An image whose sides are longer than a program takes, made smaller as a whole. */
fun shrunk(image: Image, mostHeight: Int, mostWidth: Int): Image {
    val scale = min(mostHeight.toDouble() / image.height, mostWidth.toDouble() / image.width)
    if (scale >= 1) return image
    return bilinear(image, max(1, floor(image.width * scale).toInt()), max(1, floor(image.height * scale).toInt()))
}

/** Width and height that an image is scaled to before its middle is cut out, or black is put around it. */
private fun scaledSides(width: Int, height: Int, wantedWidth: Int, wantedHeight: Int, resize: String): Pair<Int, Int> {
    val ratios = listOf(wantedWidth.toDouble() / width, wantedHeight.toDouble() / height)
    val scale = if (resize == "crop") ratios.max() else ratios.min()
    // As Python rounds: halves go to the even number.
    fun side(wanted: Int, own: Int): Int {
        val scaled = max(1, round(own * scale).toInt())
        return if (resize == "crop") max(wanted, scaled) else min(wanted, scaled)
    }
    return side(wantedWidth, width) to side(wantedHeight, height)
}

private fun fit(image: Image, size: Pair<Int, Int>, resize: String): Image {
    val (height, width) = size
    if (image.width == width && image.height == height) return image
    if (resize == "stretch") return bilinear(image, width, height)
    val sides = scaledSides(image.width, image.height, width, height, resize)
    val scaled = bilinear(image, sides.first, sides.second)
    val left = Math.floorDiv(scaled.width - width, 2)
    val top = Math.floorDiv(scaled.height - height, 2)
    val channels = image.channels
    val pixels = ByteArray(width * height * channels)
    // What lies outside of the scaled image stays black.
    val columns = max(0, -left) until min(width, scaled.width - left)
    for (y in max(0, -top) until min(height, scaled.height - top)) {
        val from = ((y + top) * scaled.width + left + columns.first) * channels
        scaled.pixels.copyInto(pixels, (y * width + columns.first) * channels, from, from + columns.count() * channels)
    }
    return Image(width, height, channels, pixels)
}

/** The mask at the size of the image as it came; what the program did not see is of class 0. */
fun back(mask: Ids, width: Int, height: Int, resize: String): Ids {
    if (mask.width == width && mask.height == height) return mask
    val columns: IntArray
    val rows: IntArray
    if (resize == "stretch") {
        columns = nearest(mask.width, width)
        rows = nearest(mask.height, height)
    } else {
        val (scaledWidth, scaledHeight) = scaledSides(width, height, mask.width, mask.height, resize)
        columns = along(width, mask.width, scaledWidth)
        rows = along(height, mask.height, scaledHeight)
    }
    val ids = ByteArray(width * height)
    for (y in 0 until height) {
        for (x in 0 until width) {
            val column = columns[x]
            val seen = column in 0 until mask.width && rows[y] in 0 until mask.height
            ids[y * width + x] = if (seen) mask.ids[rows[y] * mask.width + column] else 0
        }
    }
    return Ids(width, height, ids)
}

private fun along(own: Int, seen: Int, scaled: Int): IntArray {
    val first = Math.floorDiv(scaled - seen, 2)
    return IntArray(own) { place -> (floor((place + 0.5) * scaled / own).toInt() - first).coerceIn(-first, scaled - 1 - first) }
}
