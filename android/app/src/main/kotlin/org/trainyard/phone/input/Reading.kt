package org.trainyard.phone.input

import kotlin.math.exp

// What a program gives, as an answer: trainyard/serving/predictor.py.

/** How logits become probabilities and classes. */
class Reading(val temperature: Double, val threshold: Double?)

/** The class of an image or a text, and how likely each is. */
class Label(val logits: FloatArray, val probabilities: DoubleArray, val number: Int)

/** The class of each pixel as the program saw the image, their shares, the mean probability of what is given, mean logits. */
class Mask(val ids: Ids, val shares: DoubleArray, val confidence: Double, val means: DoubleArray)

private fun checkFinite(good: Boolean) {
    if (!good) throw Problem("numbers that the network finds no answer to", "expected numbers nearer to those that it was trained on")
}

fun readLabel(logits: FloatArray, reading: Reading): Label {
    checkFinite(logits.all(Float::isFinite))
    val scaled = logits.map { (it / reading.temperature).toFloat().toDouble() }
    val largest = scaled.max()
    val powers = scaled.map { exp(it - largest) }
    val sum = powers.sum()
    val probabilities = DoubleArray(powers.size) { powers[it] / sum }
    val number = when (reading.threshold) {
        null -> probabilities.indices.maxBy { probabilities[it] }
        else -> if (probabilities[1] >= reading.threshold) 1 else 0
    }
    return Label(logits, probabilities, number)
}

/** Reads logits (classes, H, W). */
fun readMask(logits: FloatArray, classes: Int, height: Int, width: Int, reading: Reading): Mask {
    val total = height * width
    val ids = ByteArray(total)
    val counts = IntArray(classes)
    val sums = DoubleArray(classes)
    var confidence = 0.0
    for (pixel in 0 until total) {
        var best = 0
        for (id in 0 until classes) {
            val logit = logits[id * total + pixel]
            sums[id] += logit
            if (logit > logits[best * total + pixel]) best = id
        }
        val largest = logits[best * total + pixel]
        var sum = 0.0
        for (id in 0 until classes) sum += exp((logits[id * total + pixel] - largest) / reading.temperature)
        if (reading.threshold != null) best = if (exp((logits[total + pixel] - largest) / reading.temperature) / sum >= reading.threshold) 1 else 0
        ids[pixel] = best.toByte()
        counts[best] += 1
        confidence += exp((logits[best * total + pixel] - largest) / reading.temperature) / sum
    }
    checkFinite(confidence.isFinite())
    return Mask(
        Ids(width, height, ids),
        DoubleArray(classes) { counts[it].toDouble() / total },
        confidence / total,
        DoubleArray(classes) { sums[it] / total },
    )
}

/** The forecast (horizon, targets), in the targets' own units. */
fun readForecast(values: FloatArray, targets: Int): List<FloatArray> {
    checkFinite(values.all(Float::isFinite))
    return values.toList().chunked(targets).map { it.toFloatArray() }
}
