package org.trainyard.phone.input

/** One input of a program: an array, and its shape. */
sealed class Fed(val shape: LongArray) {
    class Bytes(val values: ByteArray, vararg shape: Long) : Fed(shape)

    class Longs(val values: LongArray, vararg shape: Long) : Fed(shape)

    class Floats(val values: FloatArray, vararg shape: Long) : Fed(shape)
}

/** Raw inputs to what the program of a model takes, a batch of one: trainyard/serving/raw_inputs.py. */
class Feeding(private val about: About, private val tokenizer: Tokenizer?) {
    /** The image as the program sees it, (H, W, C). */
    fun seen(image: Image): Image {
        val form = checkNotNull(about.image) { "${about.recipe} takes no images" }
        return asTaken(about.largest?.let { (height, width) -> shrunk(image, height, width) } ?: image, form)
    }

    fun ofImage(seen: Image): List<Fed> =
        listOf(Fed.Bytes(planes(seen), 1, seen.channels.toLong(), seen.height.toLong(), seen.width.toLong()))

    /** The tokens of a text, or of the texts of the columns that the recipe joins. */
    fun read(parts: List<String>): Tokens =
        tokens(joined(parts), about.text, checkNotNull(tokenizer) { "${about.recipe} has no tokenizer" })

    fun ofText(tokens: Tokens): List<Fed> = sequence(Fed.Longs(LongArray(tokens.ids.size) { tokens.ids[it].toLong() }, 1, tokens.ids.size.toLong()))

    fun ofSeries(rows: List<DoubleArray>): List<Fed> {
        val form = about.series
        return sequence(Fed.Floats(asContext(rows, form), 1, form.contextLength.toLong(), form.columns.size.toLong()))
    }

    private fun sequence(steps: Fed): List<Fed> = listOf(steps, Fed.Longs(longArrayOf(steps.shape[1]), 1))
}
