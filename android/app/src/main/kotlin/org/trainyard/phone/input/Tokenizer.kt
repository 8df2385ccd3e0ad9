package org.trainyard.phone.input

import java.text.Normalizer
import java.util.Locale
import java.util.PriorityQueue

/**
 * The tokenizers that trainyard/data/text.py makes, from the file that the library tokenizers wrote: the same ids.
 *
 * Signs are told apart by code, not by regular expressions, whose classes are others on a phone than on a JVM.
 */
class Tokenizer(file: Map<*, *>) {
    private val steps: List<String>
    private val vocabulary: Map<String, Int>
    private val unknown: Int
    private val merges: Map<Long, Merge>?
    private val marks: List<Pair<String, Int>>
    private val words = HashMap<String, IntArray>()

    /** The token of each id. */
    val names: Map<Int, String>

    init {
        val model = file["model"] as? Map<*, *> ?: emptyMap<Any, Any>()
        val normalizers = (file["normalizer"] as? Map<*, *>)?.get("normalizers") as? List<*> ?: emptyList<Any>()
        steps = normalizers.map { (it as Map<*, *>)["type"] as String }
        val known = model["type"] in listOf("BPE", "WordLevel") && (file["pre_tokenizer"] as? Map<*, *>)?.get("type") == "Whitespace"
        require(known && steps.all { it in listOf("NFKC", "Lowercase") } && file["post_processor"] == null) {
            "the tokenizer has parts that this app does not know"
        }
        vocabulary = (model["vocab"] as Map<*, *>).entries.associate { (name, id) -> name as String to (id as Double).toInt() }
        unknown = vocabulary.getValue(model["unk_token"] as String)
        merges = if (model["type"] == "BPE") mergesOf(model["merges"] as List<*>) else null
        names = vocabulary.entries.associate { (name, id) -> id to name }
        val added = (file["added_tokens"] as List<*>).map { it as Map<*, *> }
        marks = added.map { it["content"] as String to (it["id"] as Double).toInt() }.sortedByDescending { it.first.length }
    }

    /** The ids of a text, without a limit. */
    fun encode(text: String): IntArray {
        val ids = ArrayList<Int>()
        var start = 0
        var place = 0
        while (place < text.length) {
            val mark = marks.firstOrNull { text.startsWith(it.first, place) }
            if (mark == null) {
                place += 1
                continue
            }
            plain(text.substring(start, place), ids)
            ids.add(mark.second)
            place += mark.first.length
            start = place
        }
        plain(text.substring(start), ids)
        return ids.toIntArray()
    }

    private fun plain(text: String, ids: MutableList<Int>) {
        for (piece in pieces(normalised(text))) word(piece).forEach(ids::add)
    }

    private fun normalised(text: String): String = steps.fold(text) { found, step ->
        if (step == "NFKC") Normalizer.normalize(found, Normalizer.Form.NFKC) else lowercase(found)
    }

    private fun word(piece: String): IntArray {
        if (merges == null) return intArrayOf(vocabulary[piece] ?: unknown)
        words[piece]?.let { return it }
        val ids = merged(codePoints(piece).map { vocabulary[String(Character.toChars(it))] ?: unknown }.toIntArray(), merges)
        if (words.size < MOST_WORDS) words[piece] = ids
        return ids
    }

    private fun mergesOf(pairs: List<*>): Map<Long, Merge> = pairs.withIndex().associate { (rank, entry) ->
        val (left, right) = if (entry is List<*>) entry.map { it as String } else (entry as String).split(" ")
        pair(vocabulary.getValue(left), vocabulary.getValue(right)) to Merge(rank, vocabulary.getValue(left + right))
    }

    private companion object {
        const val MOST_WORDS = 10_000
    }
}

private class Merge(val rank: Int, val made: Int)

private class Offer(val merge: Merge, val place: Int, val left: Int, val right: Int)

/** Byte pair encoding: again and again, the pair that was merged first in training, and of equal ones the leftmost. */
private fun merged(ids: IntArray, merges: Map<Long, Merge>): IntArray {
    val next = IntArray(ids.size) { it + 1 }
    val before = IntArray(ids.size) { it - 1 }
    val queue = PriorityQueue<Offer>(compareBy({ it.merge.rank }, { it.place }))
    fun offer(place: Int) {
        if (place < 0 || next[place] >= ids.size) return
        val merge = merges[pair(ids[place], ids[next[place]])] ?: return
        queue.add(Offer(merge, place, ids[place], ids[next[place]]))
    }
    for (place in ids.indices) offer(place)
    while (true) {
        val best = queue.poll() ?: break
        val other = next[best.place]
        if (ids[best.place] != best.left || other >= ids.size || ids[other] != best.right) continue
        ids[best.place] = best.merge.made
        ids[other] = -1
        next[best.place] = next[other]
        if (next[best.place] < ids.size) before[next[best.place]] = best.place
        offer(before[best.place])
        offer(best.place)
    }
    return ids.filter { it >= 0 }.toIntArray()
}

private fun pair(left: Int, right: Int): Long = (left.toLong() shl 32) or right.toLong()

/** Runs of a word's signs, and runs of other signs that are no space. */
private fun pieces(text: String): List<String> {
    val found = ArrayList<String>()
    var start = 0
    var kind = SPACE
    var place = 0
    while (place < text.length) {
        val sign = text.codePointAt(place)
        val other = kindOf(sign)
        if (other != kind) {
            if (kind != SPACE) found.add(text.substring(start, place))
            start = place
            kind = other
        }
        place += Character.charCount(sign)
    }
    if (kind != SPACE) found.add(text.substring(start))
    return found
}

private const val SPACE = 0
private const val WORD = 1
private const val OTHER = 2

private fun kindOf(sign: Int): Int = if (isSpace(sign)) SPACE else if (isOfWord(sign)) WORD else OTHER

/** Unicode's White_Space. */
private fun isSpace(sign: Int): Boolean =
    sign in 0x9..0xd || sign == 0x20 || sign == 0x85 || sign == 0xa0 || sign == 0x1680 || sign in 0x2000..0x200a ||
        sign == 0x2028 || sign == 0x2029 || sign == 0x202f || sign == 0x205f || sign == 0x3000

/** Alphabetic, a mark, a decimal digit, a connecting punctuation, or a joiner (https://unicode.org/reports/tr18, \w). */
private fun isOfWord(sign: Int): Boolean = Character.isAlphabetic(sign) || sign == 0x200c || sign == 0x200d ||
    when (Character.getType(sign).toByte()) {
        Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.COMBINING_SPACING_MARK,
        Character.DECIMAL_DIGIT_NUMBER, Character.CONNECTOR_PUNCTUATION -> true
        else -> false
    }

/** Small letters, letter by letter: a whole text would have a sigma at the end of a word become another one. */
internal fun lowercase(text: String): String {
    val found = StringBuilder(text.length)
    for (sign in codePoints(text)) found.append(String(Character.toChars(sign)).lowercase(Locale.ROOT))
    return found.toString()
}

internal fun codePoints(text: String): List<Int> {
    val found = ArrayList<Int>(text.length)
    var place = 0
    while (place < text.length) {
        val sign = text.codePointAt(place)
        found.add(sign)
        place += Character.charCount(sign)
    }
    return found
}
