package org.trainyard.phone

import android.content.Context
import java.io.Closeable
import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import org.trainyard.phone.input.About
import org.trainyard.phone.input.Fed
import org.trainyard.phone.input.Feeding
import org.trainyard.phone.input.Tokenizer
import org.trainyard.phone.input.parseJson

/** A model among the app's assets, ready to answer; one thread at a time may ask it. */
class Model(context: Context, private val name: String) : Closeable {
    private val assets = context.assets
    val about = About(text("model.json"))
    private val tokenizer = if (about.hasTokenizer) Tokenizer(parseJson(text("tokenizer.json")) as Map<*, *>) else null
    val feeding = Feeding(about, tokenizer)
    private val module = Module.load(program(context).path, Module.LOAD_MODE_MMAP)

    /** What the program gives: logits, or the forecast. */
    fun answer(fed: List<Fed>): FloatArray {
        val inputs = fed.map { EValue.from(tensor(it)) }.toTypedArray()
        return module.forward(*inputs)[0].toTensor().dataAsFloatArray
    }

    fun bytes(file: String): ByteArray = assets.open("$name/$file").use { it.readBytes() }

    fun text(file: String): String = String(bytes(file), Charsets.UTF_8)

    override fun close() = module.destroy()

    /** The program as a file, which the runtime wants; copies of other versions are deleted. */
    private fun program(context: Context): File {
        val folder = File(context.noBackupFilesDir, name).apply { mkdirs() }
        val file = File(folder, "${about.integrity.filter(Char::isLetterOrDigit)}.pte")
        if (!file.isFile) {
            folder.listFiles()?.forEach(File::delete)
            val beside = File(folder, "model.tmp")
            beside.writeBytes(bytes("model.pte"))
            check(beside.renameTo(file)) { "$file cannot be written" }
        }
        return file
    }

    companion object {
        /** The models in this app, by their recipes' names. */
        fun names(context: Context): List<String> =
            context.assets.list("").orEmpty().filter { "model.json" in context.assets.list(it).orEmpty() }.sorted()

        private fun tensor(fed: Fed): Tensor = when (fed) {
            is Fed.Bytes -> Tensor.fromBlobUnsigned(fed.values, fed.shape)
            is Fed.Longs -> Tensor.fromBlob(fed.values, fed.shape)
            is Fed.Floats -> Tensor.fromBlob(fed.values, fed.shape)
        }
    }
}
