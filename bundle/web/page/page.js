// The page: takes a scan, hands it to the worker, shows what comes back. Nothing is sent anywhere.
const { Niivue, NVImage, SLICE_TYPE } = window.niivue
const byId = (id) => document.getElementById(id)
const STATES = { tumor: 'Tumor', no_tumor: 'No tumor', uncertain: 'Uncertain', no_prediction: 'No prediction' }
const ORANGE = { R: [0, 255], G: [0, 140], B: [0, 0], A: [0, 255], I: [0, 255] }

// A worker that is made of a blob is under this page's content security policy.
const base = new URL('.', location.href).href
const start = `self.base = ${JSON.stringify(base)}; importScripts(${JSON.stringify(`${base}worker.js`)})`
const worker = new Worker(URL.createObjectURL(new Blob([start], { type: 'text/javascript' })))
const began = performance.now()
let asked = 0
let view = null
let links = []

function say(words, isError = false) {
  byId('status').textContent = words
  byId('status').classList.toggle('error', isError)
}

function enable(on) {
  for (const id of ['file', 'folder']) byId(id).disabled = !on
}

worker.onerror = (event) => say(`The app cannot start: ${event.message}`, true)
worker.onmessage = ({ data }) => {
  if (data.kind === 'progress') say(data.words)
  if (data.kind === 'ready') {
    byId('notice').textContent = data.notice
    document.body.dataset.loadMs = Math.round(performance.now() - began)
    document.body.dataset.ready = 'true'
    say('Ready.')
    enable(true)
  }
  if (data.kind === 'failed') {
    say(data.words, true)
    document.body.dataset.done = String(asked)
    enable(true)
  }
  if (data.kind === 'found') show(data).catch((error) => say(`The viewer failed: ${error.message}`, true)).finally(() => {
    document.body.dataset.answerMs = Math.round(data.ms)
    document.body.dataset.done = String(asked)
    enable(true)
  })
}

async function ask(files) {
  if (!files.length || byId('file').disabled) return
  asked += 1
  enable(false)
  byId('found').hidden = true
  say('Reading ...')
  const read = await Promise.all(files.map(async ({ file, path }) => ({ path, bytes: await file.arrayBuffer() })))
  worker.postMessage({ files: read }, read.map(({ bytes }) => bytes))
}

async function show(data) {
  const result = JSON.parse(data.result)
  say(`Predicted in ${(data.ms / 1000).toFixed(1)} s.`)
  byId('state').textContent = STATES[result.state] ?? result.state
  const rows = { file: data.name }
  if (result.tumor_probability !== null) {
    rows['tumor probability'] = `${result.tumor_probability.toFixed(2)} (tumor from ${result.threshold.toFixed(2)})`
  }
  if (result.volume_ml !== undefined) rows['volume of the mask'] = `${result.volume_ml.toFixed(1)} ml`
  else if (result.area_mm2 !== undefined) rows['area of the mask'] = `${result.area_mm2.toFixed(0)} mm²`
  rows.weights = `${result.model.version}, ${(result.model.sha256 ?? '').slice(0, 12)}`
  byId('values').replaceChildren(
    ...Object.entries(rows).flatMap(([name, value]) => [element('dt', name), element('dd', value)]),
  )
  byId('flags').replaceChildren(...result.flags.map((flag) => element('li', flag.text)))
  for (const link of links) URL.revokeObjectURL(link)
  links = []
  byId('files').replaceChildren(
    download(data.mask, data.maskName), ' ', download(new TextEncoder().encode(data.result), 'prediction.json'),
  )
  byId('found').hidden = false
  document.body.dataset.result = data.result
  await draw(data, result.kind)
}

function element(tag, words) {
  const made = document.createElement(tag)
  made.textContent = words
  return made
}

function download(bytes, name) {
  const link = element('a', name)
  link.href = URL.createObjectURL(new Blob([bytes]))
  link.download = name
  links.push(link.href)
  return link
}

async function draw(data, kind) {
  if (!view) {
    view = new Niivue({
      isRadiologicalConvention: true, sagittalNoseLeft: true, dragAndDropEnabled: false, loadingText: '',
      crosshairWidth: 1, logLevel: 'error',
    })
    view.addColormap('mask', ORANGE)
    await view.attachToCanvas(byId('canvas'))
  }
  while (view.volumes.length) view.removeVolume(view.volumes[0])
  const images = [
    { name: 'scan', bytes: data.view, colormap: 'gray', opacity: 1, cal_min: data.low, cal_max: data.high },
    { name: 'mask', bytes: data.viewMask, colormap: 'mask', opacity: byId('opacity').value / 100, cal_min: 0, cal_max: 1 },
  ]
  for (const { name, bytes, ...options } of images) {
    view.addVolume(await NVImage.loadFromUrl({ url: bytes.buffer, name: `${name}.nii`, ...options }))
  }
  view.setSliceType(kind === 'image' ? SLICE_TYPE.AXIAL : SLICE_TYPE.MULTIPLANAR)
  document.body.dataset.drawn = String(asked)
}

byId('opacity').oninput = ({ target }) => view?.volumes[1] && view.setOpacity(1, target.value / 100)
byId('file').onchange = ({ target }) => ask([...target.files].map((file) => ({ file, path: file.name })))
byId('folder').onchange = ({ target }) => ask([...target.files].map((file) => ({ file, path: file.webkitRelativePath })))

const drop = byId('drop')
document.ondragover = (event) => event.preventDefault()
document.ondrop = (event) => event.preventDefault()
drop.ondragenter = drop.ondragover = (event) => (event.preventDefault(), drop.classList.add('over'))
drop.ondragleave = () => drop.classList.remove('over')
drop.ondrop = async (event) => {
  event.preventDefault()
  drop.classList.remove('over')
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean)
  const found = (await Promise.all(entries.map(filesOf))).flat()
  const together = entries.length > 1 ? 'scan/' : '' // several files are one folder
  ask(found.map(({ file, path }) => ({ file, path: together + path })))
}

async function filesOf(entry) {
  const path = entry.fullPath.slice(1)
  if (entry.isFile) return [{ path, file: await new Promise((done, failed) => entry.file(done, failed)) }]
  const reader = entry.createReader()
  const entries = []
  for (;;) { // a reader gives at most 100 at once
    const more = await new Promise((done, failed) => reader.readEntries(done, failed))
    if (!more.length) break
    entries.push(...more)
  }
  return (await Promise.all(entries.map(filesOf))).flat()
}
