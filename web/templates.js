// The templates of this pack in the order of their names. The host lists a folder as its file system
// gives it, which is any order; the editor shows them so.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split('/').at(-2))

app.registerExtension({
  name: 'FlowDPS.Templates',
  init() {
    const listed = api.getWorkflowTemplates
    api.getWorkflowTemplates = async function (...args) {
      const all = await listed.apply(this, args)
      all?.[PACK]?.sort()
      return all
    }
  },
})
