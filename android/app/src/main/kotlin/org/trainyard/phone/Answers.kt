package org.trainyard.phone

import android.graphics.Bitmap
import kotlin.math.abs
import org.trainyard.phone.input.About
import org.trainyard.phone.input.Image
import org.trainyard.phone.input.Label
import org.trainyard.phone.input.Sample
import org.trainyard.phone.input.Tokens
import org.trainyard.phone.input.back
import org.trainyard.phone.input.readForecast
import org.trainyard.phone.input.readLabel
import org.trainyard.phone.input.readMask
import org.trainyard.phone.input.readTable

// What the screen shows of an answer. Everything here runs on the thread that asks.

/** A class, its share of one, and its colour in a mask. */
class Share(val name: String, val share: Double, val colour: Int?)

class Shown(
    val verdict: String,
    val note: Note,
    val shares: List<Share>,
    val image: Bitmap? = null,
    val mask: Bitmap? = null,
    val forecast: List<FloatArray> = emptyList(),
    /** By how much the program's answer to a test sample differs from the test's, at most. */
    val apart: Double? = null,
    val truth: String? = null,
    val milliseconds: Double,
)

sealed interface Note {
    class Sure(val probability: Double) : Note

    class Read(val tokens: Tokens, val unknown: Int, val probability: Double) : Note

    class Sizes(val image: Image, val seen: Image, val confidence: Double) : Note

    object Steps : Note
}

private const val UNKNOWN = 1

fun ofPicture(model: Model, bytes: ByteArray, sample: Sample?): Shown {
    val about = model.about
    val image = decode(bytes, about.maxPixels)
    val began = System.nanoTime()
    val seen = model.feeding.seen(image)
    val logits = model.answer(model.feeding.ofImage(seen))
    if (about.kind != "segmentation") {
        return ofLabel(about, readLabel(logits, about.reading), began, sample) { Note.Sure(it) }.with(bitmapOf(seen))
    }
    val mask = readMask(logits, about.classes.size, seen.height, seen.width, about.reading)
    val milliseconds = since(began)
    // Where the image was made smaller because it is too large for the program, the mask lies over the smaller one.
    val form = checkNotNull(about.image)
    val base = if (form.size == null) seen else image
    val own = back(mask.ids, base.width, base.height, form.resize)
    val shares = about.classes.mapIndexed { id, name -> Share(name, mask.shares[id], about.colours[id].let { opaque(it[0], it[1], it[2]) }) }
    val largest = shares.filter { it.share > 0 }.sortedByDescending { it.share }.take(MOST_SAID)
    return Shown(
        verdict = largest.joinToString(", ") { "${it.name} ${percent(it.share)}" },
        note = Note.Sizes(image, seen, mask.confidence),
        shares = shares,
        image = bitmapOf(base),
        mask = bitmapOf(own, about.colours),
        apart = sample?.let { apart(it, mask.means) },
        milliseconds = milliseconds,
    )
}

fun ofText(model: Model, parts: List<String>, sample: Sample?): Shown {
    val began = System.nanoTime()
    val tokens = model.feeding.read(parts)
    val label = readLabel(model.answer(model.feeding.ofText(tokens)), model.about.reading)
    return ofLabel(model.about, label, began, sample) { Note.Read(tokens, tokens.ids.count { id -> id == UNKNOWN }, it) }
}

fun ofSeries(model: Model, table: String, sample: Sample?): Shown {
    val began = System.nanoTime()
    val values = model.answer(model.feeding.ofSeries(readTable(table, model.about.series)))
    val steps = readForecast(values, model.about.classes.size)
    val verdict = model.about.classes.take(MOST_SAID).mapIndexed { target, name -> "$name ${short(steps.first()[target])} … ${short(steps.last()[target])}" }
    return Shown(
        verdict = verdict.joinToString(", "),
        note = Note.Steps,
        shares = emptyList(),
        forecast = steps,
        apart = sample?.let { apart(it, DoubleArray(values.size) { place -> values[place].toDouble() }) },
        milliseconds = since(began),
    )
}

private const val MOST_SAID = 3

private fun ofLabel(about: About, label: Label, began: Long, sample: Sample?, note: (Double) -> Note) = Shown(
    verdict = about.classes[label.number],
    note = note(label.probabilities[label.number]),
    shares = about.classes.mapIndexed { id, name -> Share(name, label.probabilities[id], null) },
    apart = sample?.let { apart(it, DoubleArray(label.logits.size) { place -> label.logits[place].toDouble() }) },
    truth = sample?.truth,
    milliseconds = since(began),
)

private fun Shown.with(image: Bitmap) =
    Shown(verdict, note, shares, image, mask, forecast, apart, truth, milliseconds)

private fun apart(sample: Sample, found: DoubleArray): Double = sample.expected.indices.maxOf { abs(sample.expected[it] - found[it]) }

private fun since(began: Long): Double = (System.nanoTime() - began) / 1e6

fun percent(share: Double): String = String.format(java.util.Locale.ROOT, "%.1f %%", 100 * share)

fun short(value: Float): String = String.format(java.util.Locale.ROOT, "%.5g", value)
