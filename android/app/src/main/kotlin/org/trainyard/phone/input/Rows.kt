package org.trainyard.phone.input

// A pasted table to the numbers that a forecast goes on from: trainyard/serving/raw_inputs.py.

private val MISSING = setOf("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "missing", "-", "--", "?", ".", "\\n")
private val NUMBER = Regex("[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?")
private val DATE = Regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}")
private val SPACES = Regex("\\s+")
private const val MAX_ROWS = 100_000
private const val SHOWN = 40

/** The columns that a model takes in their order, how they are read, and which columns say when and of which series a row is. */
class SeriesForm(
    val columns: List<String>, val decimal: String, val missing: String, val contextLength: Int, val time: String?, val series: String?,
)

/** Rows of numbers in the order of the columns, NaN where one is missing. */
fun readTable(text: String, form: SeriesForm): List<DoubleArray> {
    val columns = form.columns
    val lines = text.split("\r\n", "\r", "\n").filter { it.isNotBlank() }
    if (lines.isEmpty()) throw Problem("nothing", "paste rows with the columns ${columns.joinToString(", ")}")
    val separator = separatorOf(lines[0], form.decimal)
    val cells = lines.map { split(it, separator) }
    val names = cells[0]
    val hasNames = columns.any { it in names } || names.any { !isNumber(it, form.decimal) }
    val absent = columns.filter { it !in names }
    if (hasNames && absent.isNotEmpty()) {
        throw Problem("no column ${absent.joinToString(", ")}", "expected ${columns.joinToString(", ")}")
    }
    val places = columns.indices.map { if (hasNames) names.indexOf(columns[it]) else it }
    val rows = if (hasNames) cells.drop(1) else cells
    if (rows.size > MAX_ROWS) throw Problem("${count(rows.size)} rows", "expected at most ${count(MAX_ROWS)}")
    val width = if (hasNames) names.size else columns.size
    val numbers = rows.mapIndexed { number, row ->
        val where = "line ${number + if (hasNames) 2 else 1}"
        if (row.size != width) throw Problem("$where has ${row.size} cells", "expected $width")
        DoubleArray(columns.size) { numberOf(row[places[it]], form.decimal, "$where, ${columns[it]}") }
    }
    fun cellsOf(name: String?) = if (hasNames && name in names) rows.map { it[names.indexOf(name)] } else emptyList()
    checkOneSeries(cellsOf(form.series))
    checkOldestFirst(cellsOf(form.time))
    return numbers
}

private fun checkOneSeries(names: List<String>) {
    val all = names.toSet().take(2)
    if (all.size > 1) throw Problem("rows of several series, such as ${all[0]} and ${all[1]}", "expected those of one")
}

private fun checkOldestFirst(times: List<String>) {
    if (times.size > 1 && isLater(times.first(), times.last())) {
        throw Problem("the first row is of ${times.first()}, the last of ${times.last()}", "expected the oldest first")
    }
}

private fun isLater(one: String, other: String): Boolean {
    if (NUMBER.matches(one) && NUMBER.matches(other)) return one.toDouble() > other.toDouble()
    return DATE.containsMatchIn(one) && DATE.containsMatchIn(other) && one > other
}

/** The sign between cells; null: spaces. */
private fun separatorOf(line: String, decimal: String): Char? =
    (if (decimal == ",") listOf('\t', ';') else listOf('\t', ';', ',')).firstOrNull { it in line }

private fun split(line: String, separator: Char?): List<String> {
    if (separator == null) return line.trim().split(SPACES)
    val cells = ArrayList<String>()
    val cell = StringBuilder()
    var quoted = false
    var place = 0
    while (place < line.length) {
        val sign = line[place]
        when {
            sign == '"' && quoted && line.startsWith("\"\"", place) -> cell.append(line[place++])
            sign == '"' -> quoted = !quoted
            sign == separator && !quoted -> {
                cells.add(cell.toString().trim())
                cell.clear()
            }
            else -> cell.append(sign)
        }
        place += 1
    }
    cells.add(cell.toString().trim())
    return cells
}

private fun plain(cell: String, decimal: String): String = if (decimal == ",") cell.replaceFirst(',', '.') else cell

private fun isNumber(cell: String, decimal: String): Boolean = NUMBER.matches(plain(cell, decimal)) || cell.lowercase() in MISSING

private fun numberOf(cell: String, decimal: String, where: String): Double {
    if (cell.lowercase() in MISSING) return Double.NaN
    if (!NUMBER.matches(plain(cell, decimal))) throw Problem("$where: \"${cell.take(SHOWN)}\"", "expected a number")
    val number = plain(cell, decimal).toDouble()
    if (number.isInfinite()) throw Problem("$where: a number without end", "expected a finite number")
    return number
}

/** The last steps (context, F), with what is missing filled in as the recipe says. */
fun asContext(rows: List<DoubleArray>, form: SeriesForm): FloatArray {
    val length = form.contextLength
    if (rows.size < length) {
        val found = "${rows.size} row${if (rows.size == 1) "" else "s"}"
        throw Problem(found, "expected at least $length, the steps that the model was trained to see")
    }
    val values = if (rows.any { row -> row.any(Double::isNaN) }) filled(rows, form) else rows
    val context = FloatArray(length * form.columns.size)
    for (step in 0 until length) {
        val row = values.size - length + step
        values[row].forEachIndexed { column, number ->
            val narrow = number.toFloat()
            if (narrow.isInfinite()) {
                val shown = "$number".replace(".0E", "E").replace("E", "e+") // as Python writes it
                throw Problem("row ${row + 1}, ${form.columns[column]}: $shown", "expected a number that 32 bits can hold")
            }
            context[step * form.columns.size + column] = narrow
        }
    }
    return context
}

/** Straight lines where numbers are missing, and the first number before which there is none. */
private fun filled(rows: List<DoubleArray>, form: SeriesForm): List<DoubleArray> {
    fun where(row: Int) = "row ${row + 1}, ${form.columns[rows[row].indexOfFirst(Double::isNaN)]}: no number"
    if (form.missing == "refuse") {
        val first = rows.indexOfFirst { row -> row.any(Double::isNaN) }
        throw Problem(where(first), "expected a number: the recipe says missing: refuse")
    }
    if (rows.last().any(Double::isNaN)) {
        throw Problem(where(rows.lastIndex), "expected one in the last row, which the forecast goes on from")
    }
    val values = rows.map { it.copyOf() }
    for (column in form.columns.indices) {
        var before = -1
        for (row in rows.indices) {
            val end = rows[row][column]
            if (end.isNaN()) continue
            val start = if (before < 0) end else rows[before][column]
            val slope = (end - start) / (row - before)
            for (gap in before + 1 until row) values[gap][column] = if (before < 0) end else slope * (gap - before) + start
            before = row
        }
    }
    return values
}
