package org.trainyard.phone.input

/**
 * JSON (RFC 8259) as maps, lists, strings, doubles, booleans and null.
 *
 * Android's own reader is not there where these files are tested, and these files use nothing of Android's.
 */
fun parseJson(text: String): Any? = JsonReader(text).whole()

private class JsonReader(private val text: String) {
    private var place = 0

    fun whole(): Any? {
        val value = value()
        space()
        if (place < text.length) throw wrong("nothing more")
        return value
    }

    private fun value(): Any? {
        space()
        return when (val sign = peek()) {
            '{' -> mapping()
            '[' -> list()
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> if (sign == '-' || sign in '0'..'9') number() else throw wrong("a value")
        }
    }

    private fun mapping(): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        entries('}') {
            space()
            if (peek() != '"') throw wrong("a name")
            val name = string()
            space()
            take(':')
            found[name] = value()
        }
        return found
    }

    private fun list(): List<Any?> {
        val found = ArrayList<Any?>()
        entries(']') { found.add(value()) }
        return found
    }

    /** Reads what stands between the sign at this place and the one that closes it. */
    private fun entries(close: Char, read: () -> Unit) {
        place += 1
        space()
        if (peek() == close) {
            place += 1
            return
        }
        while (true) {
            read()
            space()
            if (peek() == close) break
            take(',')
        }
        place += 1
    }

    private fun string(): String {
        place += 1
        val found = StringBuilder()
        while (true) {
            val sign = peek()
            place += 1
            when {
                sign == '"' -> return found.toString()
                sign == '\\' -> found.append(escaped())
                sign < ' ' -> throw wrong("a closing quotation mark")
                else -> found.append(sign)
            }
        }
    }

    private fun escaped(): Char {
        val sign = peek()
        place += 1
        return when (sign) {
            '"', '\\', '/' -> sign
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(place, minOf(place + 4, text.length))
                place += 4
                digits.takeIf { it.length == 4 }?.toIntOrNull(16)?.toChar() ?: throw wrong("four hexadecimal digits")
            }
            else -> throw wrong("an escape that exists")
        }
    }

    private fun number(): Double {
        val start = place
        while (place < text.length && (text[place] in '0'..'9' || text[place] in "+-.eE")) place += 1
        return text.substring(start, place).toDoubleOrNull() ?: throw wrong("a number")
    }

    private fun word(word: String, value: Boolean?): Boolean? {
        if (!text.startsWith(word, place)) throw wrong(word)
        place += word.length
        return value
    }

    private fun space() {
        while (place < text.length && text[place] in " \t\r\n") place += 1
    }

    private fun peek(): Char = if (place < text.length) text[place] else throw wrong("more")

    private fun take(sign: Char) {
        if (peek() != sign) throw wrong("$sign")
        place += 1
    }

    private fun wrong(expected: String) = IllegalArgumentException("JSON: expected $expected at character $place")
}
