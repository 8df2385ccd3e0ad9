package org.trainyard.phone.input

/** Pixels (H, W, C) of 8 bits, of 1 channel for grey or 3 for red, green and blue. */
class Image(val width: Int, val height: Int, val channels: Int, val pixels: ByteArray) {
    /** The value of a channel at a place of the array, 0 to 255. */
    fun at(place: Int): Int = pixels[place].toInt() and 255
}
