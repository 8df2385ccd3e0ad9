package org.trainyard.phone.input

/** What model.json says of a model, as `trainyard android` wrote it. */
class About(json: String) {
    private val values = (parseJson(json) as Map<*, *>).also {
        require(it["format"] == FORMAT) { "model.json is of another version: run `trainyard android` again" }
    }
    private val form = values["form"] as Map<*, *>
    private val atMost = values["at_most"] as Map<*, *>

    val recipe = values["recipe"] as String
    val kind = values["kind"] as String

    /** Which network it is, and what exported it. */
    val origin = values["origin"] as String
    val classes = texts(values["classes"])

    /** Red, green and blue of each class in a mask. */
    val colours: List<List<Int>> = (values["colours"] as List<*>).map { colour -> (colour as List<*>).map { (it as Double).toInt() } }
    val reading = Reading(values["temperature"] as Double, values["threshold"] as Double?)
    val maxPixels = number("max_pixels")
    val hasTokenizer = values["tokenizer"] != null
    val samples = (values["samples"] as List<*>).map { Sample(it as Map<*, *>) }

    /** sha256 of model.pte, by which a copy of another version is told apart. */
    val integrity = (values["model"] as Map<*, *>)["integrity"] as String

    val image: ImageForm? = if (form["channels"] == null) null else {
        val size = (form["size"] as List<*>?)?.map { (it as Double).toInt() }
        ImageForm((form["channels"] as Double).toInt(), size?.let { it[0] to it[1] }, form["resize"] as String)
    }

    /** Height and width of the largest image that the program takes, where it takes any. */
    val largest: Pair<Int, Int>? = (atMost["height"] as Double?)?.let { it.toInt() to (atMost["width"] as Double).toInt() }

    /** The columns that a recipe joins to one text. */
    val textColumns = if (kind == "text_classification") texts(form["columns"]) else emptyList()
    val text = TextForm(number("max_length"), texts(values["removed_names"]))
    val series = SeriesForm(
        texts(values["columns"]), form["decimal"] as? String ?: ".", form["missing"] as? String ?: "refuse", number("context_length"),
        form["time"] as? String, form["series"] as? String,
    )

    private fun number(name: String) = (values[name] as Double).toInt()

    private fun texts(list: Any?) = (list as List<*>).map { it as String }

    private companion object {
        const val FORMAT = 1.0
    }
}

/** A test sample of the bundle, and what the model says of it. */
class Sample(values: Map<*, *>) {
    val file = values["file"] as String
    val text = values["text"] as String?

    /** The right class; null where the answer is no class. */
    val truth = values["truth"] as? String

    /** Logits of a label, mean logits of a mask, or the forecast, each as the test gave them. */
    val expected: List<Double> = when {
        values["logits"] != null -> numbers(values["logits"])
        values["mean_logits"] != null -> numbers(values["mean_logits"])
        else -> (values["forecast"] as List<*>).flatMap(::numbers)
    }

    private fun numbers(list: Any?) = (list as List<*>).map { it as Double }
}
