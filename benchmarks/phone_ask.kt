// Asks the code of the Android app, on a JVM and without Android:
//
//     java -cp ASK.jar Phone_askKt FOLDER QUESTIONS.json > ANSWERS.json
//
// FOLDER is one that `trainyard android` wrote (any, where no question is about what a program is fed). Answers stand in the
// order of the questions. What an image file, a text or a table becomes is given in base64, as the program takes it.

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64
import org.trainyard.phone.input.About
import org.trainyard.phone.input.Fed
import org.trainyard.phone.input.Feeding
import org.trainyard.phone.input.Ids
import org.trainyard.phone.input.Image
import org.trainyard.phone.input.ImageForm
import org.trainyard.phone.input.Problem
import org.trainyard.phone.input.Reading
import org.trainyard.phone.input.SeriesForm
import org.trainyard.phone.input.Tokenizer
import org.trainyard.phone.input.asContext
import org.trainyard.phone.input.asTaken
import org.trainyard.phone.input.back
import org.trainyard.phone.input.decodePng
import org.trainyard.phone.input.parseJson
import org.trainyard.phone.input.planes
import org.trainyard.phone.input.readLabel
import org.trainyard.phone.input.readMask
import org.trainyard.phone.input.readTable
import org.trainyard.phone.input.stripNames

const val MOST = 60_000_000

fun main(arguments: Array<String>) {
    val asked = Asked(File(arguments[0]))
    val questions = parseJson(File(arguments[1]).readText()) as List<*>
    val answers = questions.map { question ->
        try {
            asked.answer(question as Map<*, *>)
        } catch (problem: Problem) {
            mapOf("problem" to problem.message)
        }
    }
    print(written(answers))
}

class Asked(private val folder: File) {
    private val about by lazy { About(File(folder, "model.json").readText()) }
    private val feeding by lazy {
        Feeding(about, if (about.hasTokenizer) Tokenizer(parseJson(File(folder, "tokenizer.json").readText()) as Map<*, *>) else null)
    }

    fun answer(question: Map<*, *>): Map<String, Any?> = when (question["about"]) {
        // How an image file becomes what the program takes.
        "pixels" -> pixels(decodePng(bytes(question["png"]), MOST), question["form"] as Map<*, *>)
        // A mask at the image's own size.
        "back" -> {
            val own = ints(question["own"])
            val ids = Ids(int(question["width"]), int(question["height"]), bytes(question["ids"]))
            mapOf("ids" to base64(back(ids, own[1], own[0], question["resize"] as String).ids))
        }
        "tokens" -> {
            val tokenizer = Tokenizer(parseJson(question["tokenizer"] as String) as Map<*, *>)
            val texts = texts(question["texts"])
            // A JVM, and a phone, may know an older Unicode than the library does.
            val newer = texts.map { text -> text.codePoints().anyMatch { Character.getType(it) == Character.UNASSIGNED.toInt() } }
            mapOf("ids" to texts.map { tokenizer.encode(it).toList() }, "newer" to newer)
        }
        "stripped" -> mapOf("texts" to texts(question["texts"]).map { stripNames(it, texts(question["names"])) })
        "context" -> {
            val form = SeriesForm(
                texts(question["columns"]), question["decimal"] as String, question["missing"] as String, int(question["contextLength"]),
                question["time"] as String?, question["series"] as String?,
            )
            mapOf("context" to floats(asContext(readTable(question["table"] as String, form), form)))
        }
        // What a model's logits say.
        "label" -> readLabel(logits(question), reading(question)).let { mapOf("probabilities" to it.probabilities.toList(), "number" to it.number) }
        "mask" -> {
            val (classes, height, width) = ints(question["dims"])
            val found = readMask(logits(question), classes, height, width, reading(question))
            mapOf("ids" to base64(found.ids.ids), "shares" to found.shares.toList(), "confidence" to found.confidence, "means" to found.means.toList())
        }
        // What the program is fed for a raw input: as the app does it.
        "fed" -> {
            val began = System.nanoTime()
            val found = fed(question)
            mapOf("milliseconds" to (System.nanoTime() - began) / 1e6, "inputs" to found.map(::plain))
        }
        else -> throw IllegalArgumentException("no such question: ${question["about"]}")
    }

    private fun fed(question: Map<*, *>): List<Fed> = when {
        question["png"] != null -> feeding.ofImage(feeding.seen(decodePng(bytes(question["png"]), about.maxPixels)))
        question["text"] != null -> feeding.ofText(feeding.read(listOf(question["text"] as String)))
        else -> feeding.ofSeries(readTable(question["table"] as String, about.series))
    }

    private fun pixels(image: Image, form: Map<*, *>): Map<String, Any?> {
        val size = form["size"]?.let(::ints)?.let { it[0] to it[1] }
        val taken = asTaken(image, ImageForm(int(form["channels"]), size, form["resize"] as String))
        return mapOf(
            "pixels" to base64(planes(taken)), "channels" to taken.channels, "height" to taken.height, "width" to taken.width,
            "size" to listOf(image.height, image.width),
        )
    }

    private fun reading(question: Map<*, *>) = Reading(question["temperature"] as Double, question["threshold"] as Double?)

    private fun logits(question: Map<*, *>): FloatArray {
        val found = ByteBuffer.wrap(bytes(question["logits"])).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(found.remaining()).also(found::get)
    }
}

fun plain(fed: Fed): Map<String, Any?> = when (fed) {
    is Fed.Bytes -> mapOf("type" to "uint8", "shape" to fed.shape.toList(), "data" to base64(fed.values))
    is Fed.Floats -> mapOf("type" to "float32", "shape" to fed.shape.toList(), "data" to floats(fed.values))
    is Fed.Longs -> {
        val buffer = ByteBuffer.allocate(8 * fed.values.size).order(ByteOrder.LITTLE_ENDIAN)
        fed.values.forEach(buffer::putLong)
        mapOf("type" to "int64", "shape" to fed.shape.toList(), "data" to base64(buffer.array()))
    }
}

fun bytes(text: Any?): ByteArray = Base64.getDecoder().decode(text as String)

fun base64(bytes: ByteArray): String = Base64.getEncoder().encodeToString(bytes)

fun floats(values: FloatArray): String {
    val buffer = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    values.forEach(buffer::putFloat)
    return base64(buffer.array())
}

fun int(value: Any?): Int = (value as Double).toInt()

fun ints(list: Any?): List<Int> = (list as List<*>).map(::int)

fun texts(list: Any?): List<String> = (list as List<*>).map { it as String }

/** Values as JSON. */
fun written(value: Any?): String = when (value) {
    null, is Number, is Boolean -> value.toString()
    is Map<*, *> -> value.entries.joinToString(",", "{", "}") { (name, entry) -> "${written(name)}:${written(entry)}" }
    is List<*> -> value.joinToString(",", "[", "]", transform = ::written)
    else -> value.toString().map { sign -> if (sign in " !" || sign in '#'..'[' || sign in ']'..'~') "$sign" else "\\u%04x".format(sign.code) }
        .joinToString("", "\"", "\"")
}
