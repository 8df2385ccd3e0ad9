package org.trainyard.phone.input

import java.util.Locale

// What is taken out of a docstring before it becomes tokens, so that no text says its answer: trainyard/data/docstrings.py.

private const val W = "[\\p{L}\\p{N}_]" // a word's sign, as Python sees it
private const val SPACES = "\\t-\\r\\x1c-\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
private const val NOT_S = "[^$SPACES]"
private val ROLE = Regex(":(?:$W|[:+.\\-])+:`[^`]*`|`+[^`]*`+_*|:$W(?:$W| )*:|\\.\\. +(?:$W|-)+::")
private val ADDRESS = Regex("$W+://$NOT_S+|$NOT_S+@$NOT_S+|www\\.$NOT_S+")

// `e.g` and `i.e` are no paths: one part has to have two letters.
private val DOTTED = Regex("(?<!$W)(?!(?:$W\\.)+$W(?!$W))[A-Za-z_]$W*(?:\\.[A-Za-z_]$W*)+")
private val WORD = Regex("$W+")
private val SPACE = Regex("[$SPACES]+")
private val PARTS = Regex("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
private const val CERTAIN_LENGTH = 5

/** A text on one line, without code, paths, and words that hold one of the names. */
fun stripNames(text: String, names: Collection<String>): String {
    val bare = listOf(ROLE, ADDRESS, DOTTED).fold(text) { left, pattern -> pattern.replace(left, " ") }
    val silent = WORD.replace(bare) { if (tells(it.value, names)) "" else it.value }
    return silent.split(SPACE).filter { it.isNotEmpty() }.joinToString(" ")
}

private fun tells(word: String, names: Collection<String>): Boolean {
    val whole = folded(word)
    if (whole in names || names.any { it.length >= CERTAIN_LENGTH && it in whole }) return true
    return PARTS.findAll(word).any { folded(it.value) in names }
}

/** Python's casefold: small letters, of which some are two. */
private fun folded(word: String): String = codePoints(word).joinToString("") { sign ->
    val letter = String(Character.toChars(sign))
    if (letter == "ı") letter else lowercase(lowercase(letter).uppercase(Locale.ROOT))
}
