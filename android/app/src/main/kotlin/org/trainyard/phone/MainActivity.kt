package org.trainyard.phone

import android.app.Activity
import android.content.Intent
import android.os.Bundle
import android.text.Editable
import android.text.TextWatcher
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import java.io.IOException
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicInteger
import org.trainyard.phone.input.Problem
import org.trainyard.phone.input.Sample

/** One screen: a model, an input for it, and what it says. */
class MainActivity : Activity() {
    /** The thread on which models are opened and asked. */
    private val asking = Executors.newSingleThreadExecutor()
    private val newest = AtomicInteger()
    private var model: Model? = null
    private var fields: List<EditText> = emptyList()
    private var sample: Sample? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        val names = Model.names(this)
        val choice = findViewById<Spinner>(R.id.models)
        choice.visibility = if (names.size > 1) View.VISIBLE else View.GONE
        choice.adapter = ArrayAdapter(this, android.R.layout.simple_spinner_dropdown_item, names)
        choice.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = open(names[position])

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
        if (names.isEmpty()) fail(getString(R.string.no_model))
    }

    override fun onDestroy() {
        asking.execute { model?.close() }
        asking.shutdown()
        super.onDestroy()
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        val place = data?.data ?: return
        if (result != RESULT_OK) return
        later { model ->
            val bytes = contentResolver.openInputStream(place)?.use { it.readBytes() } ?: throw IOException("$place")
            answered(model, bytes, null)
        }
    }

    private fun open(name: String) {
        val turn = newest.incrementAndGet()
        asking.execute {
            model?.close()
            model = null
            val opened = runCatching { Model(this, name) }
            model = opened.getOrNull()
            runOnUiThread {
                if (turn != newest.get()) return@runOnUiThread
                opened.onSuccess(::show).onFailure { fail("$name: ${it.message}") }
            }
        }
    }

    /** Shows what can be done with a model, and asks it about its first sample. */
    private fun show(model: Model) {
        val panel = findViewById<ViewGroup>(R.id.panel)
        panel.removeAllViews()
        fields = emptyList()
        when (model.about.kind) {
            "text_classification" -> panel.addView(textPanel(model.about.textColumns))
            "forecasting" -> panel.addView(seriesPanel(model.about.series.contextLength, model.about.series.columns))
            else -> panel.addView(picturePanel(model.about.kind == "segmentation"))
        }
        val samples = findViewById<LinearLayout>(R.id.samples)
        samples.removeAllViews()
        model.about.samples.forEachIndexed { number, sample ->
            samples.addView(Button(this).apply {
                text = sample.text ?: getString(R.string.sample, number + 1)
                isAllCaps = false
                setOnClickListener { take(sample) }
            })
        }
        findViewById<TextView>(R.id.origin).text = model.about.origin
        model.about.samples.firstOrNull()?.let(::take)
    }

    private fun take(taken: Sample) {
        if (fields.isEmpty()) {
            later { answered(it, it.bytes(taken.file), taken) }
        } else {
            later({ it.text(taken.file) }) { text ->
                fields.forEachIndexed { place, field -> field.setText(if (place == 0) text else "") }
                // Setting a text asks without the sample; this asks again, with it.
                sample = taken
                askFields()
            }
        }
    }

    private fun picturePanel(masks: Boolean): View {
        val view = LayoutInflater.from(this).inflate(R.layout.picture, null)
        view.findViewById<Button>(R.id.choose).setOnClickListener { choose("image/*") }
        view.findViewById<View>(R.id.strength_row).visibility = if (masks) View.VISIBLE else View.GONE
        val mask = view.findViewById<ImageView>(R.id.mask)
        val strength = view.findViewById<SeekBar>(R.id.strength)
        mask.alpha = strength.progress / HUNDRED
        strength.setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
            override fun onProgressChanged(bar: SeekBar?, progress: Int, byUser: Boolean) {
                mask.alpha = progress / HUNDRED
            }

            override fun onStartTrackingTouch(bar: SeekBar?) = Unit

            override fun onStopTrackingTouch(bar: SeekBar?) = Unit
        })
        return view
    }

    private fun textPanel(columns: List<String>): View {
        val names = if (columns.size > 1) columns else listOf(getString(R.string.text))
        val view = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        fields = names.map { field(view, it) }
        return view
    }

    private fun seriesPanel(contextLength: Int, columns: List<String>): View {
        val view = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        fields = listOf(field(view, getString(R.string.rows)))
        view.addView(TextView(this).apply { text = getString(R.string.rules, contextLength, columns.joinToString(", ")) })
        view.addView(Button(this).apply {
            setText(R.string.choose_table)
            setOnClickListener { choose("text/*") }
        })
        return view
    }

    private fun field(parent: ViewGroup, name: String): EditText {
        val view = LayoutInflater.from(this).inflate(R.layout.field, parent, false)
        val field = view.findViewById<EditText>(R.id.field).apply { id = View.generateViewId() }
        view.findViewById<TextView>(R.id.label).apply {
            text = name
            labelFor = field.id
        }
        field.addTextChangedListener(object : TextWatcher {
            override fun beforeTextChanged(text: CharSequence?, start: Int, count: Int, after: Int) = Unit

            override fun onTextChanged(text: CharSequence?, start: Int, before: Int, count: Int) = Unit

            override fun afterTextChanged(text: Editable?) {
                sample = null
                askFields()
            }
        })
        parent.addView(view)
        return field
    }

    private fun choose(type: String) =
        startActivityForResult(Intent(Intent.ACTION_GET_CONTENT).setType(type).addCategory(Intent.CATEGORY_OPENABLE), 0)

    private fun askFields() {
        val (parts, asked) = fields.map { it.text.toString() } to sample
        later { if (it.about.kind == "forecasting") ofSeries(it, parts[0], asked) else ofText(it, parts, asked) }
    }

    private fun answered(model: Model, bytes: ByteArray, sample: Sample?): Shown =
        if (model.about.kind == "forecasting") ofSeries(model, String(bytes, Charsets.UTF_8), sample) else ofPicture(model, bytes, sample)

    private fun later(ask: (Model) -> Shown) = later(ask, ::paint)

    /** Asks on the other thread, and shows the answer here, unless something newer was asked meanwhile. */
    private fun <Answer> later(ask: (Model) -> Answer, then: (Answer) -> Unit) {
        val turn = newest.incrementAndGet()
        asking.execute {
            val asked = model
            if (asked == null || turn != newest.get()) return@execute
            val answer = runCatching { ask(asked) }
            runOnUiThread {
                if (turn != newest.get()) return@runOnUiThread
                answer.onSuccess(then).onFailure(::fail)
            }
        }
    }

    private fun fail(error: Throwable) = fail(
        when (error) {
            is Problem -> "${error.message}"
            is IOException -> getString(R.string.unreadable)
            else -> "$error"
        },
    )

    private fun fail(problem: String) {
        findViewById<TextView>(R.id.problem).apply {
            text = problem
            visibility = View.VISIBLE
        }
        findViewById<TextView>(R.id.verdict).text = ""
        findViewById<TextView>(R.id.note).text = ""
        findViewById<LinearLayout>(R.id.bars).removeAllViews()
        findViewById<ImageView>(R.id.image)?.setImageDrawable(null)
        findViewById<ImageView>(R.id.mask)?.setImageDrawable(null)
    }

    private fun paint(shown: Shown) {
        findViewById<TextView>(R.id.problem).visibility = View.GONE
        findViewById<TextView>(R.id.verdict).text = shown.verdict
        val compared = shown.apart?.let { apart ->
            val within = String.format(java.util.Locale.ROOT, "%.0e", apart)
            shown.truth?.let { getString(R.string.as_expected, it, within) } ?: getString(R.string.as_forecast, within)
        }
        val took = getString(R.string.milliseconds, String.format(java.util.Locale.ROOT, "%.1f", shown.milliseconds))
        findViewById<TextView>(R.id.note).text = listOfNotNull(said(shown.note), compared, took).joinToString("\n")
        findViewById<ImageView>(R.id.image)?.apply {
            setImageBitmap(shown.image)
            contentDescription = if (shown.mask == null) getString(R.string.seen) else getString(R.string.image_and_mask, shown.verdict)
        }
        findViewById<ImageView>(R.id.mask)?.setImageBitmap(shown.mask)
        val bars = findViewById<LinearLayout>(R.id.bars)
        bars.removeAllViews()
        shown.shares.sortedByDescending { it.share }.take(MOST_BARS).forEach { bars.addView(bar(bars, it)) }
        shown.forecast.forEachIndexed { step, values ->
            bars.addView(TextView(this).apply { text = "${getString(R.string.step, step + 1)}   ${values.joinToString("   ", transform = ::short)}" })
        }
    }

    private fun said(note: Note): String? = when (note) {
        is Note.Sure -> getString(R.string.sure, percent(note.probability))
        is Note.Read -> {
            val sure = getString(R.string.sure, percent(note.probability))
            "$sure\n${getString(R.string.tokens, note.tokens.all.size, note.tokens.ids.size, note.unknown)}"
        }
        is Note.Sizes -> sizes(note)
        Note.Steps -> null
    }

    private fun sizes(note: Note.Sizes): String {
        val (image, seen) = note.image to note.seen
        if (image.width == seen.width && image.height == seen.height) {
            return getString(R.string.sizes, image.width, image.height, percent(note.confidence))
        }
        return getString(R.string.shrunk, image.width, image.height, seen.width, seen.height, percent(note.confidence))
    }

    private fun bar(parent: ViewGroup, share: Share): View {
        val view = LayoutInflater.from(this).inflate(R.layout.bar, parent, false)
        view.contentDescription = getString(R.string.class_and_share, share.name, percent(share.share))
        view.findViewById<TextView>(R.id.name).text = share.name
        view.findViewById<TextView>(R.id.share).text = percent(share.share)
        view.findViewById<ProgressBar>(R.id.track).apply { progress = (share.share * max).toInt() }
        share.colour?.let { colour ->
            view.findViewById<View>(R.id.swatch).apply {
                visibility = View.VISIBLE
                setBackgroundColor(colour)
            }
        }
        return view
    }

    private companion object {
        const val HUNDRED = 100f
        const val MOST_BARS = 12
    }
}
