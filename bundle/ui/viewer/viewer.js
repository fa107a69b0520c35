// A volume in NiiVue, as a component of Streamlit: https://docs.streamlit.io/develop/concepts/custom-components
// Radiological on every plane: the patient's left at the right side of axial and coronal slices, the front at the left
// of sagittal ones, as `bundle/pictures/drawing.py` draws them.
const { Niivue, NVImage, SLICE_TYPE, DRAG_MODE } = window.niivue
const PLANES = {
  three: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
}
const THREE = [
  { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.6, 1] },
  { sliceType: SLICE_TYPE.CORONAL, position: [0.6, 0, 0.4, 0.5] },
  { sliceType: SLICE_TYPE.SAGITTAL, position: [0.6, 0.5, 0.4, 0.5] },
]
const NARROW = 600 // pixels: one plane first
const byId = (id) => document.getElementById(id)

let shown = null // arguments of the volume on display
let view = null // Niivue
let range = [0, 1] // gray levels at the first window

function send(type, content) {
  window.parent.postMessage({ isStreamlitMessage: true, type: `streamlit:${type}`, ...content }, '*')
}

function fit() {
  const width = document.body.clientWidth
  if (width >= NARROW) byId('more').open = true
  const ratio = width < NARROW ? 1 : view?.opts.sliceType === SLICE_TYPE.MULTIPLANAR ? 0.62 : 0.75
  byId('stage').style.height = `${Math.round(Math.min(620, width * ratio))}px`
}

function colormap([red, green, blue]) {
  return { R: [0, red], G: [0, green], B: [0, blue], A: [0, 255], I: [0, 255] }
}

async function show(args) {
  shown = args
  if (!view) {
    view = new Niivue({
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      showAllOrientationMarkers: true,
      dragMode: DRAG_MODE.contrast,
      dragAndDropEnabled: false,
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.2, 0.75, 0.7, 0.8],
      crosshairWidth: 1,
      crosshairGap: 12,
      fontMinPx: 18,
      fontColor: [1, 1, 1, 1],
      loadingText: '',
      viewModeHotKey: '',
      clipPlaneHotKey: '',
      cycleClipPlaneHotKey: '',
      logLevel: 'error',
    })
    view.onLocationChange = (place) => tell(place.mm)
    view.onIntensityChange = (image) => image === view.volumes[0] && followWindow(image)
    await view.attachToCanvas(byId('canvas'))
    if (!view.gl) throw new Error('no WebGL 2')
  }
  while (view.volumes.length) view.removeVolume(view.volumes[0])
  for (const image of args.images) {
    if (image.color) view.addColormap(image.name, colormap(image.color))
    const bytes = args[image.name]
    const loaded = await NVImage.loadFromUrl({
      url: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength),
      name: `${image.name}.nii.gz`,
      colormap: image.color ? image.name : 'gray',
      opacity: image.opacity,
      cal_min: image.low,
      cal_max: image.high,
    })
    view.addVolume(loaded)
  }
  range = [args.images[0].low, args.images[0].high]
  listOverlays(args.images)
  listSlices(args)
  byId('home').textContent = args.start_label
  byId('home_key').textContent = args.start_label.toLowerCase()
  view.setIsOrientationTextVisible(args.sides_known)
  choosePlane(document.body.clientWidth < NARROW ? 'axial' : 'three')
  resetWindow()
  goTo(args.start_mm)
  document.body.dataset.ready = args.id // for tests
}

function choosePlane(name) {
  document.querySelector(`[name=plane][value=${name}]`).checked = true
  name === 'three' ? view.setCustomLayout(THREE) : view.clearCustomLayout()
  view.setSliceType(PLANES[name])
  fit()
}

function goTo(mm) {
  view.scene.crosshairPos = view.mm2frac(mm)
  view.createOnLocationChange()
  view.drawScene()
}

function indexOf(mm) {
  return Math.round(shown.index_of_mm.reduce((sum, weight, axis) => sum + weight * [...mm, 1][axis], 0))
}

function goToSlice(index) {
  const here = [...view.frac2mm(view.scene.crosshairPos)].slice(0, 3)
  const steps = Math.max(0, Math.min(shown.probabilities.length - 1, index)) - indexOf(here)
  goTo(here.map((value, axis) => value + steps * shown.step_mm[axis]))
}

function tell(mm) {
  const index = indexOf([...mm].slice(0, 3))
  const probability = shown.probabilities[index]
  const said = probability == null ? 'too little brain for a probability' : `probability ${probability.toFixed(2)}`
  const sides = shown.sides_known ? "L: the patient's left, R: right." : 'The file does not tell left from right.'
  byId('place').textContent = `Slice ${index}: ${said}. ${sides}`
  byId('curve').querySelectorAll('i').forEach((bar, number) => bar.classList.toggle('here', number === index))
}

function listSlices({ probabilities, threshold }) {
  const bars = probabilities.map((probability, index) => {
    const bar = document.createElement('i')
    bar.style.height = `${100 * (probability ?? 0)}%`
    bar.classList.toggle('above', probability !== null && probability >= threshold)
    bar.title = `slice ${index}: ${probability === null ? 'too little brain' : probability.toFixed(2)}`
    return bar
  })
  const line = document.createElement('hr')
  line.style.bottom = `${100 * threshold}%`
  byId('curve').replaceChildren(...bars, line)
}

function listOverlays(images) {
  const rows = images.filter((image) => image.label).map((image) => {
    const on = Object.assign(document.createElement('input'), { type: 'checkbox', checked: image.shown, id: image.name })
    const opacity = Object.assign(document.createElement('input'), {
      type: 'range', min: 0.05, max: 1, step: 0.05, value: image.opacity, ariaLabel: `${image.label}: opacity`,
    })
    const draw = () => images.forEach((other, place) => {
      if (other.name === image.name) view.setOpacity(place, on.checked ? Number(opacity.value) : 0)
      if (other.edge_of === image.name) view.setOpacity(place, on.checked ? 1 : 0)
    })
    on.addEventListener('change', draw)
    opacity.addEventListener('input', draw)
    draw()
    const label = document.createElement('label')
    label.append(on, image.label, opacity)
    return label
  })
  byId('overlays').replaceChildren(...rows)
}

function setWindow() { // as `windowed` of `bundle/pictures/drawing.py`
  const [low, high] = range
  const middle = low + (0.5 - Number(byId('brightness').value) / 200) * (high - low)
  const half = (high - low) / 10 ** (Number(byId('contrast').value) / 100) / 2
  Object.assign(view.volumes[0], { cal_min: middle - half, cal_max: middle + half })
  view.updateGLVolume()
}

function followWindow({ cal_min, cal_max }) { // of an area, chosen with the right button
  const [low, high] = range
  byId('brightness').value = 200 * (0.5 - ((cal_min + cal_max) / 2 - low) / (high - low))
  byId('contrast').value = 100 * Math.log10((high - low) / Math.max(cal_max - cal_min, 1e-6))
}

function resetWindow() {
  byId('brightness').value = 0
  byId('contrast').value = 0
  setWindow()
}

const KEYS = {
  ArrowUp: () => view.moveCrosshairInVox(0, 0, 1),
  ArrowDown: () => view.moveCrosshairInVox(0, 0, -1),
  m: () => byId('mask')?.click(),
  a: () => byId('cam')?.click(),
  t: () => goTo(shown.start_mm),
  w: resetWindow,
  1: () => choosePlane('three'),
  2: () => choosePlane('axial'),
  3: () => choosePlane('coronal'),
  4: () => choosePlane('sagittal'),
}

document.addEventListener('keydown', (event) => {
  const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()]
  const typing = event.target.matches?.('input[type=range], input[type=radio]') && event.key.startsWith('Arrow')
  if (!act || !view?.volumes.length || typing || event.ctrlKey || event.metaKey || event.altKey) return
  event.preventDefault()
  event.stopImmediatePropagation() // NiiVue has keys of its own
  act()
}, true)
byId('planes').addEventListener('change', (event) => choosePlane(event.target.value))
byId('home').addEventListener('click', () => goTo(shown.start_mm))
byId('reset').addEventListener('click', resetWindow)
byId('brightness').addEventListener('input', setWindow)
byId('contrast').addEventListener('input', setWindow)
byId('curve').addEventListener('click', (event) => {
  const box = byId('curve').getBoundingClientRect()
  goToSlice(Math.floor(((event.clientX - box.left) / box.width) * shown.probabilities.length))
})
window.addEventListener('message', ({ data }) => {
  if (data?.type !== 'streamlit:render') return
  const { args, theme } = data
  if (theme) {
    document.documentElement.style.setProperty('--text', theme.textColor)
    document.documentElement.style.setProperty('--line', theme.base === 'dark' ? '#555b66' : '#d0d3db')
    document.documentElement.style.setProperty('--accent', theme.primaryColor)
  }
  if (args.id === shown?.id) return
  show(args).catch((error) => {
    const words = document.createElement('p')
    words.textContent = `The volume cannot be drawn here (${error.message}). See the tab "Slice".`
    byId('stage').replaceChildren(words)
  })
})
send('componentReady', { apiVersion: 1 })
new ResizeObserver(() => {
  fit()
  send('setFrameHeight', { height: Math.ceil(document.body.getBoundingClientRect().height) + 4 })
}).observe(document.body)
