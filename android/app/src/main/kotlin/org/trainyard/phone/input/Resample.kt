package org.trainyard.phone.input

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

// Images of another size, as Pillow makes them: bilinear with anti-aliasing in fixed-point arithmetic, and nearest.

private const val PRECISION_BITS = 22 // 32 bits, less 8 of a pixel and 2 to spare
private const val HALF = 1 shl (PRECISION_BITS - 1)

/** From where on pixels of the other size count for one pixel, and by which weights. */
private class Weights(val first: Int, val fixed: IntArray)

private fun weights(from: Int, to: Int): List<Weights> {
    val scale = from.toDouble() / to
    val support = max(scale, 1.0)
    return List(to) { place ->
        val center = (place + 0.5) * scale
        val first = max(0, (center - support + 0.5).toInt())
        val last = min(from, (center + support + 0.5).toInt())
        val found = DoubleArray(last - first) { other -> max(0.0, 1 - abs((other + first - center + 0.5) * (1 / support))) }
        // Added up from the left: another order would round otherwise.
        var sum = 0.0
        for (weight in found) sum += weight
        Weights(first, IntArray(found.size) { other -> (0.5 + found[other] / sum * (1 shl PRECISION_BITS)).toInt() })
    }
}

/** An image at another size. */
fun bilinear(image: Image, width: Int, height: Int): Image {
    // As Pillow does from 13 on: the order of the two passes shows in the rounding.
    val shorter = image.height - height
    val upright = shorter > 0 && shorter > 2 * (image.width - width)
    var found = image
    for (horizontally in listOf(!upright, upright)) {
        if ((if (horizontally) found.width else found.height) == (if (horizontally) width else height)) continue
        found = resampled(found, if (horizontally) width else found.width, if (horizontally) found.height else height, horizontally)
    }
    return found
}

private fun resampled(image: Image, width: Int, height: Int, horizontally: Boolean): Image {
    val channels = image.channels
    val pixels = ByteArray(width * height * channels)
    val along = if (horizontally) weights(image.width, width) else weights(image.height, height)
    val step = if (horizontally) channels else image.width * channels
    var out = 0
    for (y in 0 until height) {
        for (x in 0 until width) {
            val weights = along[if (horizontally) x else y]
            val fixed = weights.fixed
            val first = if (horizontally) y * image.width + weights.first else weights.first * image.width + x
            for (channel in 0 until channels) {
                var sum = HALF
                for (place in fixed.indices) sum += image.at(first * channels + place * step + channel) * fixed[place]
                pixels[out++] = (sum shr PRECISION_BITS).coerceIn(0, 255).toByte()
            }
        }
    }
    return Image(width, height, channels, pixels)
}

/** For each pixel along one side, which one of the other size is the nearest. */
fun nearest(from: Int, to: Int): IntArray {
    val step = from.toDouble() / to
    val places = IntArray(to)
    var place = step * 0.5
    for (number in 0 until to) {
        places[number] = min(from - 1, place.toInt())
        place += step // added up, as Pillow does, and not multiplied
    }
    return places
}
