package org.trainyard.phone.input

import java.text.NumberFormat
import java.util.Locale

/** What is wrong with an input, in one plain sentence: `<what was found>; <what is expected>`. */
class Problem(found: String, expected: String) : Exception("$found; $expected")

/** 1234567 as 1,234,567. */
fun count(number: Number): String = NumberFormat.getIntegerInstance(Locale.US).format(number)
