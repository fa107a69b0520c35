// The worker: Pyodide reads, preprocesses and postprocesses a scan, ONNX Runtime runs the network on its slices.
const HOME = '/home/pyodide'
let python = null
let network = null
let prediction = null

const tell = (words) => postMessage({ kind: 'progress', words })

async function bytesOf(name) {
  const answer = await fetch(`${self.base}${name}`)
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`)
  return answer.arrayBuffer()
}

async function load() {
  tell('Loading Python ...')
  importScripts(`${self.base}pyodide/pyodide.js`, `${self.base}ort/ort.wasm.min.js`)
  python = await loadPyodide({ indexURL: `${self.base}pyodide/`, packages: ['numpy', 'scipy', 'pillow'] })
  tell('Loading the network ...')
  for (const name of ['python.zip', 'model.zip']) {
    await python.unpackArchive(await bytesOf(name), 'zip', { extractDir: `${HOME}/app` })
  }
  ort.env.wasm.wasmPaths = `${self.base}ort/`
  ort.env.wasm.numThreads = 1
  network = await ort.InferenceSession.create(new Uint8Array(await bytesOf('network.onnx')))
  prediction = python.runPython(`
import sys
sys.path.insert(0, "${HOME}/app")
from bundle_web.predict import Prediction
Prediction("${HOME}/app/model")
`)
  postMessage({ kind: 'ready', notice: prediction.settings.get('notice') })
}

async function run(slices) {
  const [count, channels, height, width] = slices.shape
  const size = channels * height * width
  const packed = new Float32Array(count * 2 * height * width)
  let features = null
  for (let index = 0; index < count; index += 1) {
    tell(`Slice ${index + 1} of ${count} ...`)
    const image = new ort.Tensor('float32', slices.data.slice(index * size, (index + 1) * size), [1, channels, height, width])
    const found = await network.run({ image })
    packed.set(found.packed.data, index * 2 * height * width)
    features ??= new Float32Array(count * found.features.dims[1])
    features.set(found.features.data, index * found.features.dims[1])
  }
  return { packed, features: features ?? new Float32Array(0), count, height, width }
}

async function predict(files) {
  python.runPython('import shutil; shutil.rmtree("/scan", ignore_errors=True)')
  for (const { path, bytes } of files) {
    const place = `/scan/${path}`
    python.FS.mkdirTree(place.slice(0, place.lastIndexOf('/')))
    python.FS.writeFile(place, new Uint8Array(bytes))
  }
  const first = files[0].path
  const scan = first.includes('/') ? `/scan/${first.slice(0, first.lastIndexOf('/'))}` : `/scan/${first}`
  tell('Preprocessing ...')
  const asked = prediction.begin(scan)
  const view = asked.getBuffer('f32')
  const { packed, features, count, height, width } = await run({ data: view.data, shape: view.shape })
  view.release()
  asked.destroy()
  tell('Postprocessing ...')
  const found = prediction.finish(packed, features, count, height, width)
  const result = Object.fromEntries(found.toJs({ create_pyproxies: false }))
  found.destroy()
  return { ...result, name: scan.slice('/scan/'.length) }
}

self.onmessage = async ({ data }) => {
  const began = performance.now()
  try {
    const found = await predict(data.files)
    postMessage({ kind: 'found', ms: performance.now() - began, maskName: found.mask_name, viewMask: found.view_mask, ...found })
  } catch (error) {
    postMessage({ kind: 'failed', words: reasonOf(error) })
  }
}

// A Python error ends with "Type: message"; of a scan that cannot be read the message is one line with the remedy.
function reasonOf(error) {
  const last = String(error.message ?? error).trim().split('\n').pop()
  return last.replace(/^[\w.]*(Error|Exception): /, '').replace(/^\/scan\//, '')
}

load().catch((error) => postMessage({ kind: 'failed', words: `The app cannot start: ${reasonOf(error)}` }))
