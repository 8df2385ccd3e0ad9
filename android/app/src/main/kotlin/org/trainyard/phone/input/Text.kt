package org.trainyard.phone.input

private const val MAX_CHARACTERS = 1_000_000
private const val UNKNOWN = 1

/** Tokens that a text becomes at most, and names that are taken out of it first; none: it stays as it is. */
class TextForm(val maxLength: Int, val removedNames: List<String>)

/** The ids that a program takes, and all those of the text. */
class Tokens(val ids: IntArray, val all: IntArray)

/** Joins the texts of columns as trainyard/data/text_table.py does. */
fun joined(parts: List<String>): String = if (parts.size == 1) parts[0] else parts.filter { it.isNotBlank() }.joinToString(" ")

fun tokens(text: String, form: TextForm, tokenizer: Tokenizer): Tokens {
    val signs = codePoints(text)
    if (signs.size > MAX_CHARACTERS) throw Problem("${count(signs.size)} characters", "expected at most ${count(MAX_CHARACTERS)}")
    if (signs.any { it in 0xd800..0xdfff }) throw Problem("half of a character", "expected text that can be written as UTF-8")
    if (signs.none(::isVisible)) throw Problem("a text with nothing in it to read", "expected words")
    val all = tokenizer.encode(if (form.removedNames.isEmpty()) text else stripNames(text, form.removedNames))
    return Tokens(if (all.isEmpty()) intArrayOf(UNKNOWN) else all.copyOf(minOf(all.size, form.maxLength)), all)
}

/** Neither a space nor a sign that is not shown. */
private fun isVisible(sign: Int): Boolean = when (Character.getType(sign).toByte()) {
    Character.UNASSIGNED, Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE,
    Character.SPACE_SEPARATOR, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR -> false
    else -> true
}
