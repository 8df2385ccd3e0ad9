package org.trainyard.phone

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.os.Build
import java.io.ByteArrayInputStream
import java.io.IOException
import org.trainyard.phone.input.Ids
import org.trainyard.phone.input.Image
import org.trainyard.phone.input.Problem
import org.trainyard.phone.input.checkPixels
import org.trainyard.phone.input.decodePng
import org.trainyard.phone.input.isPng
import org.trainyard.phone.input.overBlack
import org.trainyard.phone.input.turned

// Files to images, and images and masks to what Android shows.

private const val EXPECTED = "expected an image that this phone can read: PNG, JPEG, WebP, GIF, BMP or HEIF"

/** Decodes a PNG as Python does, to the last bit; other files as Android does. */
fun decode(bytes: ByteArray, maxPixels: Int): Image {
    if (isPng(bytes)) return decodePng(bytes, maxPixels)
    val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)
    if (options.outWidth < 1 || options.outHeight < 1) throw Problem("this is no image, or a damaged one", EXPECTED)
    checkPixels(options.outWidth, options.outHeight, maxPixels)
    val plain = BitmapFactory.Options().apply {
        inScaled = false
        inPremultiplied = false
    }
    val bitmap = BitmapFactory.decodeByteArray(bytes, 0, bytes.size, plain) ?: throw Problem("a damaged image", EXPECTED)
    val image = imageOf(bitmap)
    bitmap.recycle()
    return turned(image, orientation(bytes))
}

private fun orientation(bytes: ByteArray): Int = try {
    // A HEIF file is turned as it is decoded.
    val isTurned = String(bytes, 4, 4, Charsets.ISO_8859_1) == "ftyp"
    if (isTurned || Build.VERSION.SDK_INT < Build.VERSION_CODES.N) {
        ExifInterface.ORIENTATION_NORMAL
    } else {
        ExifInterface(ByteArrayInputStream(bytes)).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
    }
} catch (_: IOException) {
    ExifInterface.ORIENTATION_NORMAL
}

private fun imageOf(bitmap: Bitmap): Image {
    val pixels = ByteArray(bitmap.width * bitmap.height * 3)
    val row = IntArray(bitmap.width)
    var place = 0
    for (y in 0 until bitmap.height) {
        bitmap.getPixels(row, 0, bitmap.width, 0, y, bitmap.width, 1)
        for (colour in row) {
            val alpha = colour ushr 24
            for (shift in intArrayOf(16, 8, 0)) pixels[place++] = overBlack((colour shr shift) and 255, alpha).toByte()
        }
    }
    return Image(bitmap.width, bitmap.height, 3, pixels)
}

/** An image as Android shows it. */
fun bitmapOf(image: Image): Bitmap {
    val step = image.channels
    val last = step - 1
    val colours = IntArray(image.width * image.height) { pixel ->
        val first = pixel * step
        opaque(image.at(first), image.at(first + minOf(1, last)), image.at(first + last))
    }
    return Bitmap.createBitmap(colours, image.width, image.height, Bitmap.Config.ARGB_8888)
}

/** A mask in the classes' colours; the first class, which is the background, is clear. */
fun bitmapOf(mask: Ids, colours: List<List<Int>>): Bitmap {
    val palette = IntArray(colours.size) { if (it == 0) 0 else opaque(colours[it][0], colours[it][1], colours[it][2]) }
    return Bitmap.createBitmap(IntArray(mask.ids.size) { palette[mask.ids[it].toInt() and 255] }, mask.width, mask.height, Bitmap.Config.ARGB_8888)
}

fun opaque(red: Int, green: Int, blue: Int): Int = (255 shl 24) or (red shl 16) or (green shl 8) or blue
