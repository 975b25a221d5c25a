// The widgets of Degradation Operator have the names of the chosen task: its number is called
// quality for JPEG and radius for a lens out of focus, and what the task does not use is hidden.
//
// The widgets stay what they are, task, deg_scale and seed: saved workflows, prompts of programs
// and forms know them by these names and by their order, on every host. The words come with the
// node's definition, made from the registry of degradations.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const NODE = 'FlowDPS_DegradationOperator'
const NUMBER = 'deg_scale'
let fields = {}
let words = {} // In the user's language.

const widget = (node, name) => node.widgets?.find((each) => each.name === name)
const linked = (node, name) => node.inputs?.some((slot) => slot.widget?.name === name && slot.link != null)

function show(node, found, visible) {
  if (!found) return
  found.hidden = !visible
  found.options.hidden = !visible // Read by the newer kind of nodes.
  const slot = node.inputs?.find((each) => each.widget?.name === found.name)
  if (slot) slot.hidden = !visible
}

const shown = new WeakMap() // The task whose words a node shows.

// A node that a user made larger stays so, unless it is new or its task was just chosen.
function relabel(node, fit = false) {
  const number = widget(node, NUMBER)
  const known = linked(node, 'task') ? undefined : fields[widget(node, 'task')?.value]
  const usual = known?.number
  if (number) {
    number.usual ??= { label: number.label, tooltip: number.tooltip }
    number.label = usual ? words[usual.name] ?? usual.name : number.usual.label
    number.tooltip = usual ? words[usual.meaning] ?? usual.meaning : number.usual.tooltip
    const slot = node.inputs?.find((each) => each.widget?.name === NUMBER)
    if (slot) slot.label = number.label
    show(node, number, !known || usual || linked(node, NUMBER))
  }
  show(node, widget(node, 'seed'), !known || known.seeded || linked(node, 'seed'))
  shown.set(node, widget(node, 'task')?.value)
  const least = node.computeSize()[1]
  node.setSize([node.size[0], fit ? least : Math.max(least, node.size[1])])
  node.setDirtyCanvas?.(true, true)
}

// Another task's number means something else: it begins with that task's default.
function choose(node, task) {
  const number = widget(node, NUMBER)
  const usual = fields[task]?.number
  if (usual && number && !linked(node, NUMBER)) number.value = usual.default
  relabel(node, true)
}

function after(object, name, then) {
  const before = object[name]
  object[name] = function (...args) {
    const result = before?.apply(this, args)
    then.apply(this, args)
    return result
  }
}

app.registerExtension({
  name: 'FlowDPS.DegradationOperator',
  async setup() {
    const language = app.ui.settings.getSettingValue('Comfy.Locale')
    const all = await api.fetchApi('/i18n').then((answer) => answer.json()).catch(() => ({}))
    words = all[language]?.FlowDPS ?? {}
  },
  beforeRegisterNodeDef(kind, definition) {
    if (definition.name !== NODE) return
    fields = definition.input.required.task[1].fields ?? {}
    after(kind.prototype, 'onNodeCreated', function () {
      const task = widget(this, 'task')
      after(task, 'callback', (value) => { if (value !== shown.get(this)) choose(this, value) })
      relabel(this, true)
    })
    after(kind.prototype, 'onConfigure', function () { relabel(this) })
    after(kind.prototype, 'onConnectionsChange', function () { relabel(this) })
  },
})
